"""Messages and DMARC policies with the verdicts of libopendmarc: dmarc_cases.py DIR DRIVER SUFFIXES [COUNT].

Where RFC 7489 and RFC 9989 say the same: policies are at the domain itself or at its organizational domain, which is the
same by public suffixes and by walking up the tree, and have none of the tags that only one of them knows. DRIVER is the
program made of opendmarc.c, SUFFIXES the list of public suffixes.
"""

import base64
import hashlib
import json
import os
import random
import subprocess
import sys

import dkim
import nacl.signing

SEED = hashlib.sha256(b"dmarc").digest()
RECORD = "v=DKIM1; k=ed25519; p=" + base64.b64encode(nacl.signing.SigningKey(SEED).verify_key.encode()).decode()

ORGANIZATION = "example.com"
FROM = [ORGANIZATION, "sub.example.com", "deep.sub.example.com", "Example.COM"]
SIGNERS = [ORGANIZATION, "sub.example.com", "news.example.com", "example.net", "deep.sub.example.com", "notexample.com"]
RECORDS = [
    "v=DMARC1; p=%(p)s",
    "v=DMARC1; p=%(p)s; sp=%(sp)s",
    "v=DMARC1; p=%(p)s; adkim=%(adkim)s; aspf=%(aspf)s",
    "v=DMARC1;p=%(p)s;sp=%(sp)s;adkim=%(adkim)s;aspf=%(aspf)s;rua=mailto:dmarc@example.com",
    "v=DMARC1 ; p = %(p)s ; fo=1; ruf=mailto:dmarc@example.com; ri=3600; aspf=%(aspf)s",
]


def main():
    folder, driver, suffixes = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 150
    rng = random.Random(9989)
    cases, lines = [], []
    for n in range(count):
        author, tags = rng.choice(FROM), {
            "p": rng.choice(["none", "quarantine", "reject"]),
            "sp": rng.choice(["none", "quarantine", "reject"]),
            "adkim": rng.choice("rs"),
            "aspf": rng.choice("rs"),
        }
        place = ORGANIZATION
        if author == "sub.example.com" and rng.random() < 0.3:
            place = author
        record = rng.choice(RECORDS) % tags
        # With a record of its own, both standards find the same organization.
        zone = {"_dmarc." + ORGANIZATION: "v=DMARC1; p=none", "_dmarc." + place: record}
        message = ("From: Joe <joe@%s>\r\nTo: jane@example.net\r\nSubject: %d\r\n\r\nHello\r\n" % (author, n)).encode()
        passed = []
        for signer in rng.sample(SIGNERS, rng.randrange(3)):
            signed = dkim.sign(
                message,
                b"s",
                signer.encode(),
                base64.b64encode(SEED),
                signature_algorithm=b"ed25519-sha256",
                include_headers=[b"from", b"to", b"subject"],
            )
            if rng.random() < 0.2:
                signed = signed.replace(b"bh=", b"bh=A", 1)
            else:
                passed.append(signer)
            message = signed + message
            zone["s._domainkey." + signer] = RECORD
        mail_from, spf = rng.choice(SIGNERS), rng.choice(["pass", "pass", "fail"])
        file = "%04d.eml" % n
        with open(os.path.join(folder, file), "wb") as out:
            out.write(message)
        cases.append({"file": file, "mail_from": mail_from, "spf": spf, "zone": zone})
        cases[-1]["name"] = "From %s, %s at %s, signed by %s, SPF %s for %s" % (
            author, record, place, passed or "nobody", spf, mail_from)
        strict = [domain for kind, domains in (("adkim=s", passed), ("aspf=s", [mail_from])) if kind in record for domain in domains]
        if any(domain.endswith("." + author.lower()) for domain in strict):
            cases[-1]["why"] = "libopendmarc takes what is below the domain in From as aligned, also where strict (RFC 7489 3.1)"
        if place != ORGANIZATION and "sp=" in record:
            cases[-1]["why"] = "libopendmarc goes by sp= also in the record of the domain itself (RFC 7489 6.3: of subdomains)"
        lines.append("\t".join([author.lower(), record, place, ORGANIZATION, mail_from, spf] + passed) + "\n")
    out = subprocess.run([driver, suffixes], input="".join(lines), check=True, capture_output=True, text=True).stdout
    for case, line in zip(cases, out.splitlines(), strict=True):
        verdict, apply, dkim_aligned, spf_aligned = line.split()
        case["theirs"] = {"verdict": verdict, "apply": apply, "dkim": dkim_aligned == "1", "spf": spf_aligned == "1"}
    with open(os.path.join(folder, "cases.json"), "w", encoding="utf-8") as file:
        json.dump(cases, file)


main()
