//! A connection is compressed (RFC 4978) by another implementation, in plain and over TLS, and goes on after it was silent.

use anyhow::Result;
use mox_integration_tests::client::python;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

/// imaplib over Python's zlib, which compresses as Thunderbird does.
const COMPRESSED: &str = r#"
import imaplib, ssl, sys, time, zlib
kind, host, port, user, password = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
c = imaplib.IMAP4_SSL(host, int(port), ssl_context=context) if kind == "tls" else imaplib.IMAP4(host, int(port))
imaplib.Commands.update({"COMPRESS": ("AUTH", "SELECTED"), "UNAUTHENTICATE": ("AUTH", "SELECTED")})

def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]

class Deflated:
    def __init__(self, socket):
        self.socket = socket
        self.deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        self.inflate = zlib.decompressobj(-15)
        self.buffer = b""
        self.received = 0

    def fill(self):
        data = self.socket.recv(65536)
        assert data, "the server ended the connection"
        self.received += len(data)
        self.buffer += self.inflate.decompress(data)

    def take(self, n):
        taken, self.buffer = self.buffer[:n], self.buffer[n:]
        return taken

    def readline(self):
        while b"\n" not in self.buffer:
            self.fill()
        return self.take(self.buffer.index(b"\n") + 1)

    def read(self, n):
        while len(self.buffer) < n:
            self.fill()
        return self.take(n)

    def send(self, data):
        self.socket.sendall(self.deflate.compress(data) + self.deflate.flush(zlib.Z_SYNC_FLUSH))

ok(c.login(user, password))
assert "COMPRESS=DEFLATE" in ok(c.capability())[0].decode()
ok(c._simple_command("COMPRESS", "DEFLATE"))
z = Deflated(c.sock)
c.readline, c.read, c.send = z.readline, z.read, z.send
assert c._simple_command("COMPRESS", "DEFLATE")[0] == "NO"
assert "COMPRESS=DEFLATE" not in ok(c.capability())[0].decode()
box = "Deflated-" + kind
ok(c.create(box))
ok(c.select(box))
small = b"Subject: again and again\r\n\r\n" + b"the same line\r\n" * 20000
large = b"Subject: large\r\n\r\n" + bytes(33 + n * 7919 % 90 for n in range(2000000))
for message in [small, large, small]:
    ok(c.append(box, None, None, message))
    before = z.received
    assert ok(c.fetch("*", "(BODY.PEEK[])"))[0][1] == message
    assert message is large or z.received - before < len(message) / 20, "it was not compressed"
    # Long enough for the server to forget all but what it needs.
    time.sleep(1.5)
    ok(c.noop())
ok(c._simple_command("UNAUTHENTICATE"))
c.state = "NONAUTH"
ok(c.login(user, password))
assert ok(c.select(box)) == [b"3"]
c.logout()
"#;

fn imaplib_compresses(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let ip = mox.ip().to_string();
    for (kind, address) in [("plain", mox.imap()), ("tls", mox.imaps())] {
        python(COMPRESSED, &[kind, &ip, &address.port().to_string(), USER, PASSWORD])?;
    }
    Ok(())
}

in_both_shapes!(imaplib_compresses);
