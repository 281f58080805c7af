"""Questions about SPF with the answers of python3-spf, as JSON: spf_cases.py OUT [COUNT].

The questions are those of the test suite of RFC 7208, which the Debian package has among its documentation, with the
answers that the suite wants; and COUNT of made-up policies.
"""

import gzip
import json
import random
import socket
import sys

import spf
import yaml

SUITE = "/usr/share/doc/python3-spf/rfc7208-tests.yml.gz"


def records(name, entries):
    """Of one name: [type, value] lists, and whether all other types time out."""
    out, timeout, generated, txt = [], False, True, []
    for entry in entries:
        if entry == "TIMEOUT":
            timeout = True
            continue
        for kind, value in entry.items():
            if kind in ("TXT", "SPF"):
                if value == "NONE":
                    generated = False
                    continue
                parts = [value] if isinstance(value, str) else list(value)
                # Records of type SPF stand for those of type TXT, where there are none.
                (out if kind == "TXT" else txt).append(["TXT", parts])
                generated = generated and kind == "SPF"
            elif kind == "MX":
                out.append(["MX", [str(value[0]), value[1]]])
            else:
                out.append([kind, [value]])
    if generated:
        out += txt
    return {"records": out, "timeout": timeout}


def look_up(zone):
    """What python3-spf asks, answered from a zone."""

    def answer(name, qtype, strict=True, timeout=None, level=0):
        labels = [label for label in name.split(".") if label]
        if any(len(label) > 63 for label in labels):
            raise spf.TempError("DNS label too long")
        name = ".".join(labels)
        entry = zone.get(name.lower())
        if entry is None:
            if name.startswith("error."):
                raise spf.TempError("DNS timeout")
            return []
        found, of_type = [], False
        for kind, value in entry["records"]:
            if kind == qtype:
                of_type = True
            elif kind != "CNAME":
                continue
            if kind == "AAAA":
                data = socket.inet_pton(socket.AF_INET6, value[0])
            elif kind == "TXT":
                data = tuple(part.encode("utf-8") for part in value)
            elif kind == "MX":
                data = (int(value[0]), value[1])
            else:
                data = value[0]
            found.append(((name, kind), data))
            if kind == "CNAME" and qtype != "CNAME" and not level:
                found += answer(value[0], qtype, strict, timeout, 1)
        if entry["timeout"] and not of_type:
            raise spf.TempError("DNS timeout")
        return found

    return answer


def ask(zone, ip, mail_from, helo):
    spf.DNSLookup = look_up(zone)
    query = spf.query(i=ip, s=mail_from, h=helo, receiver="mx.example.net", strict=True)
    result, _, text = query.check()
    if result == "permerror" and "Void lookup limit" in text:
        return "permerror: void"
    return {"unknown": "permerror", "error": "temperror"}.get(result, result)


def suite():
    with gzip.open(SUITE, "rb") as file:
        scenarios = list(yaml.safe_load_all(file))
    for scenario in scenarios:
        zone = {name.lower(): records(name, entries) for name, entries in scenario["zonedata"].items()}
        cases = []
        for name, test in scenario["tests"].items():
            wanted = test["result"]
            ip, mail_from, helo = test["host"], test["mailfrom"], test["helo"]
            cases.append(
                {
                    "name": name,
                    "ip": ip,
                    "mail_from": mail_from,
                    "helo": helo,
                    "wanted": [wanted] if isinstance(wanted, str) else wanted,
                    "theirs": ask(zone, ip, mail_from, helo).split(":")[0],
                }
            )
        yield {"name": scenario["description"], "zone": zone, "cases": cases}


def address(rng):
    if rng.random() < 0.25:
        return "2001:db8:%x::%x" % (rng.randrange(3), rng.randrange(1, 6))
    return "192.0.2.%d" % rng.randrange(1, 24)


def made_up(count):
    """Policies of random mechanisms over a small world, so that some match."""
    rng = random.Random(7208)
    hosts = ["h%d.example.org" % n for n in range(12)]
    domains = ["d%d.example.com" % n for n in range(40)]
    zone = {}
    for host in hosts:
        entries = [{"AAAA" if ":" in ip else "A": ip} for ip in (address(rng) for _ in range(rng.randrange(3)))]
        if entries or rng.random() < 0.5:
            zone[host] = records(host, entries)
    zone["slow.example.org"] = records("slow.example.org", ["TIMEOUT"])
    for n in range(1, 24):
        name = "%d.2.0.192.in-addr.arpa" % n
        zone[name] = records(name, [{"PTR": rng.choice(hosts + ["nowhere.example"])} for _ in range(rng.randrange(1, 3))])

    def mechanism(own, below):
        kind = rng.choice(["a", "a", "mx", "ptr", "ip4", "ip4", "ip6", "include", "exists", "a-macro", "slow"])
        target = rng.choice(hosts + domains[:3] + ["nowhere.example"])
        if kind in ("a", "mx"):
            text = kind + rng.choice(["", ":" + target])
            return text + rng.choice(["", "", "/24", "/28", "//64", "/30//126"])
        if kind == "ptr":
            return rng.choice(["ptr", "ptr:example.org"])
        if kind == "ip4":
            return "ip4:192.0.2.%d%s" % (rng.randrange(1, 24), rng.choice(["", "/32", "/29", "/24"]))
        if kind == "ip6":
            return "ip6:2001:db8:%x::%s" % (rng.randrange(3), rng.choice(["1", "/64", "/48"]))
        if kind == "include":
            return "include:" + rng.choice(below or ["nowhere.example"])
        if kind == "exists":
            return "exists:" + rng.choice(["%{ir}.list.example.org", target, "%{l1r-}.%{d2}"])
        if kind == "a-macro":
            return "a:h%{l}.%{o2r}".replace("o2r", rng.choice(["o2", "d1r", "h"]))
        return "a:slow.example.org" if rng.random() < 0.1 else "ip4:198.51.100.1"

    for n in range(1, 24, 2):
        name = "%d.2.0.192.list.example.org" % n
        zone[name] = records(name, [{"A": "127.0.0.2"}])
    for at, domain in enumerate(domains):
        below = domains[:at][-6:]
        terms = [rng.choice(["", "", "", "+", "-", "~", "?"]) + mechanism(domain, below) for _ in range(rng.randrange(1, 6))]
        if below and rng.random() < 0.15:
            terms.append("redirect=" + rng.choice(below))
        elif rng.random() < 0.8:
            terms.append(rng.choice(["-all", "~all", "?all", "+all"]))
        # Mistakes that people make.
        if rng.random() < 0.1:
            terms.insert(0, rng.choice(["ip4:192.0.2", "a:", "ip4:192.0.2.1/33", "include", "foo", "mx/129", "redirect="]))
        if rng.random() < 0.1:
            terms.append(rng.choice(["x=y", "exp=nowhere.example"]))
        entries = [{"TXT": "v=spf1 " + " ".join(terms)}, {"MX": [10, rng.choice(hosts)]}]
        if rng.random() < 0.5:
            entries.append({"A": address(random.Random(at))} if at % 3 else {"A": "192.0.2.%d" % (at % 23 + 1)})
        entries = [e for e in entries if ":" not in str(e.get("A", ""))]
        zone[domain] = records(domain, entries)
    cases = []
    for n in range(count):
        ip, domain = address(rng), rng.choice(domains)
        mail_from = "%s@%s" % (rng.choice(["joe", "3", "a-b-c", "postmaster"]), domain)
        helo = rng.choice(hosts)
        cases.append(
            {
                "name": "%d: %s for %s: %s" % (n, ip, mail_from, zone[domain]["records"][0][1][0]),
                "ip": ip,
                "mail_from": mail_from,
                "helo": helo,
                "wanted": [],
                "theirs": ask(zone, ip, mail_from, helo),
            }
        )
    return {"name": "made up", "zone": zone, "cases": cases}


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    out = {"suite": list(suite()), "made_up": made_up(count)}
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(out, file)


main()
