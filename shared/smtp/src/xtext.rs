//! xtext (RFC 3461 §4): printable ASCII without `+` and `=`, others as `+` and two upper-case hexadecimal digits.

/// The octets that `xtext` stands for, if it is xtext.
#[must_use]
pub fn decode(xtext: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(xtext.len());
    let mut octets = xtext.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'+' => out.push(digit(octets.next()?)? << 4 | digit(octets.next()?)?),
            b'=' => return None,
            0x21..=0x7e => out.push(octet),
            _ => return None,
        }
    }
    Some(out)
}

/// `octets` as xtext.
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len());
    for &octet in octets {
        match octet {
            b'+' | b'=' => out.push_str(if octet == b'+' { "+2B" } else { "+3D" }),
            0x21..=0x7e => out.push(char::from(octet)),
            _ => {
                out.push('+');
                for nibble in [octet >> 4, octet & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
                }
            }
        }
    }
    out
}

fn digit(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        // RFC 3461 has upper case only; reading lower case too harms nobody.
        b'a'..=b'f' => Some(octet - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_xtext() {
        assert_eq!(decode("a+2Bb+3D@c").unwrap(), b"a+b=@c");
        for bad in ["a=b", "a+", "a+2", "a+ZZ", "a b", "\u{e9}"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_survive(octets: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&octets)), Some(octets));
        }
    }
}
