"""Messages with DKIM signatures by python3-dkim and libopendkim, and what both make of messages.

dkim_cases.py make DIR DRIVER    writes keys, messages, verdicts in DIR/cases.json, and messages DIR/*.unsigned
dkim_cases.py verify DIR DRIVER  prints verdicts on all DIR/*.eml, by the keys in DIR/keys.json, as JSON

DRIVER is the program made of opendkim.c.
"""

import base64
import glob
import hashlib
import json
import os
import subprocess
import sys

import dkim
import nacl.signing

DOMAIN = b"example.org"
# Of PKCS#8 (RFC 8410) for Ed25519, before the seed.
PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")

BODIES = {
    "plain": b"Hello\r\n",
    "empty": b"",
    "one empty line": b"\r\n",
    "empty lines": b"\r\n\r\n\r\n",
    "white space": b"a  b\t\tc \t\r\n indented \r\n\r\n d\r\n\r\n\r\n",
    "no line end": b"Hello\r\nthe end",
    "utf-8": "gr\u00fcn \u65e5\u672c\r\n".encode(),
    "latin-1": b"gr\xfcn\r\n",
    "long line": b"x" * 5000 + b"\r\n" + b"y z " * 1000 + b"\r\n",
    "dots": b".\r\n..\r\n. .\r\n",
    "only white space": b" \r\n\t\r\n \t \r\n",
    "large": b"0123456789 abcdef\r\n" * 20000,
    "mime": b'--b\r\nContent-Type: text/plain\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>one\r\n--b--\r\n',
}

HEADERS = {
    "usual": b"From: Joe <joe@example.org>\r\nTo: Jane <jane@example.net>\r\nSubject: Hello\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n",
    "folded": b"FROM:Joe\r\n\t<joe@example.org>\r\nsubject: a  long\r\n  subject \r\n\tin  parts \r\nTo:jane@example.net\r\n"
    b"Date:  Thu, 01 Jan 2026 00:00:00 +0000\r\n",
    "repeated": b"Received: from a by b; Thu, 01 Jan 2026 00:00:01 +0000\r\nReceived: from c by a;\r\n\tThu, 01 Jan 2026 "
    b"00:00:00 +0000\r\nFrom: joe@example.org\r\nTo: a@example.net\r\nReferences: <1@x>\r\n <2@x>\r\nSubject:\r\n",
    "utf-8": "From: J\u00f6rg <joe@example.org>\r\nSubject: gr\u00fcn\r\nTo: jane@example.net\r\n".encode(),
}


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


class Key:
    """A key pair and the record of its public half."""

    def __init__(self, folder, selector, bits=None):
        self.selector, self.ed25519 = selector, bits is None
        self.file = os.path.join(folder, selector + ".pem")
        if self.ed25519:
            seed = hashlib.sha256(selector.encode()).digest()
            pem = base64.b64encode(PKCS8_ED25519 + seed).decode()
            with open(self.file, "w", encoding="ascii") as file:
                file.write("-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n" % pem)
            self.private = base64.b64encode(seed)
            public = nacl.signing.SigningKey(seed).verify_key.encode()
            self.record = "v=DKIM1; k=ed25519; p=" + base64.b64encode(public).decode()
            self.algorithm = "ed25519-sha256"
        else:
            openssl("genrsa", "-out", self.file, str(bits))
            with open(self.file, "rb") as file:
                self.private = file.read()
            public = openssl("rsa", "-in", self.file, "-pubout", "-outform", "DER")
            self.record = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
            self.algorithm = "rsa-sha256"

    def name(self):
        return "%s._domainkey.example.org" % self.selector


def sign_python(message, key, header, body, **more):
    algorithm = more.pop("algorithm", key.algorithm)
    return (
        dkim.sign(
            message,
            key.selector.encode(),
            more.pop("domain", DOMAIN),
            key.private,
            canonicalize=(header.encode(), body.encode()),
            signature_algorithm=algorithm.encode(),
            **more,
        )
        + message
    )


def sign_opendkim(driver, message, key, header, body):
    arguments = [driver, "sign", key.file, key.selector, "example.org", header, body, key.algorithm]
    return subprocess.run(arguments, input=message, check=True, capture_output=True).stdout + message


def verify_python(message, keys):
    def answer(name, timeout=5):
        name = (name if isinstance(name, str) else name.decode()).rstrip(".")
        return keys.get(name, "").encode() or None

    try:
        return bool(dkim.verify(message, dnsfunc=answer))
    except Exception:  # what it can't read, it does not take
        return False


def verify_opendkim(driver, message, keys_file):
    out = subprocess.run([driver, "verify", keys_file], input=message, check=True, capture_output=True).stdout
    return out.startswith(b"pass")


def header_of(message):
    header, _, body = message.partition(b"\r\n\r\n")
    return header + b"\r\n", body


def changed(message):
    """What happens to messages on their way: each with a name."""
    header, body = header_of(message)
    signature, _, rest = header.partition(b"\r\nFrom:" if b"\r\nFrom:" in header else b"\r\nFROM:")

    def whole(header, body):
        return header + b"\r\n" + body

    yield "a word of the body", whole(header, body.replace(b"a", b"A", 1) + b"more\r\n")
    yield "white space at line ends", whole(header, body.replace(b"\r\n", b" \t\r\n"))
    yield "white space within lines", whole(header, body.replace(b" ", b"  "))
    yield "empty lines at the end", whole(header, body + b"\r\n\r\n")
    yield "the subject", whole(header.replace(b"ubject:", b"ubject: Re:"), body)
    yield "white space in the header", whole(header.replace(b"joe@", b" \r\n\tjoe@").replace(b"Joe \r\n", b"Joe\r\n"), body)
    yield "names of fields", whole(header.replace(b"\r\nTo", b"\r\nTO").replace(b"\r\nDate", b"\r\ndATE"), body)
    yield "another From", whole(b"From: eve@example.com\r\n" + header, body)
    yield "a field that is not signed", whole(b"X-Other: a\r\n" + header + b"X-More: b\r\n", body)
    yield "the signature", whole(header.replace(b" b=", b" b=A", 1).replace(b"\tb=", b"\tb=A", 1), body)
    yield "the hash of the body", whole(header.replace(b"bh=", b"bh=A", 1), body)
    yield "nothing but Received", whole(b"Received: from a by b; Thu, 01 Jan 2026 00:00:05 +0000\r\n" + header, body)


class Cases:
    def __init__(self, folder, driver):
        self.folder, self.driver, self.cases, self.keys = folder, driver, [], {}
        self.keys_file = os.path.join(folder, "keys")

    def publish(self, key, record=None):
        self.keys[key.name()] = key.record if record is None else record

    def add(self, name, message, ours=None, why=""):
        file = "%04d.eml" % len(self.cases)
        with open(os.path.join(self.folder, file), "wb") as out:
            out.write(message)
        self.cases.append({"file": file, "name": name, "ours": ours, "why": why})

    def finish(self):
        write_keys(self.folder, self.keys)
        for case in self.cases:
            with open(os.path.join(self.folder, case["file"]), "rb") as file:
                message = file.read()
            case["python3-dkim"] = verify_python(message, self.keys)
            case["opendkim"] = verify_opendkim(self.driver, message, self.keys_file)
        with open(os.path.join(self.folder, "cases.json"), "w", encoding="utf-8") as file:
            json.dump({"keys": self.keys, "cases": self.cases}, file)


def write_keys(folder, keys):
    with open(os.path.join(folder, "keys"), "w", encoding="utf-8") as file:
        for name, record in keys.items():
            file.write("%s %s\n" % (name, record))


def make(folder, driver):
    cases = Cases(folder, driver)
    rsa, small, ed = Key(folder, "rsa", 2048), Key(folder, "small", 1024), Key(folder, "ed")
    for key in (rsa, small, ed):
        cases.publish(key)
    methods = ("simple", "relaxed")
    kinds = list(HEADERS.items())
    number = 0
    for key in (rsa, ed):
        for header in methods:
            for body in methods:
                for at, (name, content) in enumerate(BODIES.items()):
                    kind, fields = kinds[number % len(kinds)]
                    number += 1
                    message = fields + b"\r\n" + content
                    what = "%s %s/%s, %s header, body with %s" % (key.algorithm, header, body, kind, name)
                    if at % 2:
                        cases.add("python3-dkim, " + what, sign_python(message, key, header, body))
                    else:
                        cases.add("opendkim, " + what, sign_opendkim(driver, message, key, header, body))
    # Changed on the way.
    for key in (rsa, ed):
        for header in methods:
            for body in methods:
                for kind in ("usual", "folded"):
                    message = HEADERS[kind] + b"\r\n" + BODIES["white space"]
                    signed = sign_python(message, key, header, body)
                    for name, other in changed(signed):
                        what = "%s %s/%s, %s header, changed: %s" % (key.algorithm, header, body, kind, name)
                        cases.add("python3-dkim, " + what, other)
    policies(cases, folder, rsa, small, ed)
    for kind, fields in kinds:
        for name, content in BODIES.items():
            with open(os.path.join(folder, "%s, %s.unsigned" % (kind, name)), "wb") as file:
                file.write(fields + b"\r\n" + content)
    cases.finish()


def policies(cases, folder, rsa, small, ed):
    """Keys and signatures that differ in more than how they were made. What is not taken by us is said, with why."""
    message = HEADERS["usual"] + b"\r\n" + BODIES["plain"]
    relaxed = ("relaxed", "relaxed")
    cases.add("RSA of 1024 bits", sign_python(message, small, *relaxed))
    for bits in (512, 768):
        weak = Key(folder, "weak%d" % bits, bits)
        cases.publish(weak)
        why = "RFC 8301: keys of less than 1024 bits are not valid"
        cases.add("RSA of %d bits" % bits, sign_python(message, weak, *relaxed), "fail", why)
    why = "RFC 8301: SHA-1 must not be counted on"
    cases.add("rsa-sha1", sign_python(message, rsa, *relaxed, algorithm="rsa-sha1"), "policy", why)
    why = "what follows the signed part of a body could be anybody's"
    part = sign_python(message, rsa, *relaxed, length=True)
    cases.add("l= of all", part, "policy", why)
    cases.add("l= of a part", part + b"more\r\n", "policy", why)
    for name, selector, record, ours, why in [
        ("key is missing", "none", None, "permerror", ""),
        ("key is revoked", "gone", "v=DKIM1; k=rsa; p=", "permerror", ""),
        ("key is another's", "other", small.record, "fail", ""),
        ("key is of another kind", "kind", ed.record, "permerror", ""),
        ("key is for another service", "service", rsa.record.replace("k=rsa", "k=rsa; s=other"), None, ""),
        ("key is for mail among others", "mail", rsa.record.replace("k=rsa", "k=rsa; s=other:email"), None, ""),
        ("key is for SHA-1 only", "sha1", rsa.record.replace("k=rsa", "k=rsa; h=sha1"), None, ""),
        ("key is for SHA-256", "sha256", rsa.record.replace("k=rsa", "k=rsa; h=sha1:sha256"), None, ""),
        ("key is for tests", "test", rsa.record.replace("k=rsa", "k=rsa; t=y"), None, ""),
        ("key has notes and unknown tags", "notes", rsa.record.replace("k=rsa", "k=rsa; n=a note; zz=1"), None, ""),
        ("key has no version", "version", rsa.record.replace("v=DKIM1; ", ""), None, ""),
        ("key has another version", "dkim2", rsa.record.replace("DKIM1", "DKIM2"), None, ""),
        ("key has white space in it", "space", rsa.record[:60] + " \t" + rsa.record[60:], None, ""),
        ("key is no base64", "broken", "v=DKIM1; k=rsa; p=$$$$", "permerror", ""),
    ]:
        key = Key.__new__(Key)
        key.__dict__ = dict(rsa.__dict__, selector=selector)
        if record is not None:
            cases.publish(key, record)
        cases.add(name, sign_python(message, key, *relaxed), ours, why)
    strict = Key.__new__(Key)
    strict.__dict__ = dict(rsa.__dict__, selector="strict")
    cases.publish(strict, rsa.record.replace("k=rsa", "k=rsa; t=s"))
    for identity in (b"joe@example.org", b"@example.org", b"joe@sub.example.org"):
        for key in (rsa, strict):
            name = "i=%s with t=%s" % (identity.decode(), "s" if key is strict else "")
            cases.add(name, sign_python(message, key, *relaxed, identity=identity))
    # Signed fields that are not there, and fields that are signed twice.
    for fields in ([b"from", b"subject", b"from", b"to", b"cc"], [b"from"], [b"from", b"x-missing", b"x-missing"]):
        name = "h=" + b":".join(fields).decode()
        signed = sign_python(message, ed, *relaxed, include_headers=fields)
        cases.add(name, signed)
        cases.add(name + ", with a second subject", b"Subject: other\r\n" + signed)
        cases.add(name + ", with Cc", b"Cc: other@example.net\r\n" + signed)


def verify(folder, driver):
    with open(os.path.join(folder, "keys.json"), encoding="utf-8") as file:
        keys = json.load(file)
    write_keys(folder, keys)
    verdicts = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.eml"))):
        with open(path, "rb") as file:
            message = file.read()
        verdicts[os.path.basename(path)] = {
            "python3-dkim": verify_python(message, keys),
            "opendkim": verify_opendkim(driver, message, os.path.join(folder, "keys")),
        }
    json.dump(verdicts, sys.stdout)


{"make": make, "verify": verify}[sys.argv[1]](sys.argv[2], sys.argv[3])
