//! MD5 (RFC 1321) with its state between blocks in the open, which is what a server keeps for CRAM-MD5.
//!
//! MD5 is broken as a hash. Here it only serves HMAC-MD5, in the one mechanism that is defined by it.

/// Octets of a block.
pub(crate) const BLOCK: usize = 64;

/// The state after whole blocks, as 16 octets, each word least significant octet first.
pub(crate) type State = [u8; 16];

/// The state before the first block (RFC 1321 §3.3).
const INITIAL: State = [
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10,
];

/// Left rotations of each round, in turn (RFC 1321 §3.4).
const SHIFT: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// `floor(2^32 * abs(sin(i + 1)))` (RFC 1321 §3.4, table T).
const T: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

fn words<const N: usize>(octets: &[u8]) -> [u32; N] {
    let mut out = [0; N];
    for (word, four) in out.iter_mut().zip(octets.chunks_exact(4)) {
        *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    }
    out
}

fn compress(state: &mut State, block: &[u8]) {
    let x: [u32; 16] = words(block);
    let start: [u32; 4] = words(state);
    let [mut a, mut b, mut c, mut d] = start;
    for (i, t) in T.iter().enumerate() {
        let (mix, k) = match i / 16 {
            0 => ((b & c) | (!b & d), i),
            1 => ((b & d) | (c & !d), 5 * i + 1),
            2 => (b ^ c ^ d, 3 * i + 5),
            _ => (c ^ (b | !d), 7 * i),
        };
        let sum = a.wrapping_add(mix).wrapping_add(x[k % 16]).wrapping_add(*t);
        (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(SHIFT[i / 16][i % 4])));
    }
    for ((out, old), new) in state.chunks_exact_mut(4).zip(start).zip([a, b, c, d]) {
        out.copy_from_slice(&old.wrapping_add(new).to_le_bytes());
    }
}

/// The digest of what led to `state` in `done` octets (whole blocks), followed by `rest`.
fn finish(mut state: State, done: usize, rest: &[u8]) -> [u8; 16] {
    let mut blocks = rest.chunks_exact(BLOCK);
    for block in &mut blocks {
        compress(&mut state, block);
    }
    let tail = blocks.remainder();
    let mut last = [0u8; 2 * BLOCK];
    last[..tail.len()].copy_from_slice(tail);
    last[tail.len()] = 0x80;
    let end = if tail.len() < BLOCK - 8 { BLOCK } else { 2 * BLOCK };
    let bits = ((done + rest.len()) as u64).wrapping_mul(8);
    last[end - 8..end].copy_from_slice(&bits.to_le_bytes());
    for block in last[..end].chunks_exact(BLOCK) {
        compress(&mut state, block);
    }
    state
}

/// MD5 of the whole of `data`.
pub(crate) fn digest(data: &[u8]) -> [u8; 16] {
    finish(INITIAL, 0, data)
}

/// The two states that HMAC (RFC 2104 §2) begins from, inner and outer, for a key: with them, and without the key,
/// HMACs can be made (RFC 2104 §4).
pub(crate) fn hmac_states(key: &[u8]) -> (State, State) {
    let mut padded = [0u8; BLOCK];
    if key.len() > BLOCK {
        padded[..16].copy_from_slice(&digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let after = |pad: u8| {
        let mut state = INITIAL;
        compress(&mut state, &padded.map(|b| b ^ pad));
        state
    };
    (after(0x36), after(0x5c))
}

/// HMAC-MD5 of `data` from the states of its key.
pub(crate) fn hmac(inner: &State, outer: &State, data: &[u8]) -> [u8; 16] {
    finish(*outer, BLOCK, &finish(*inner, BLOCK, data))
}

/// Two lower-case hexadecimal digits an octet.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|n| char::from(b"0123456789abcdef"[usize::from(n)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_rfc_1321_appendix_a_5() {
        for (data, expected) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                "d174ab98d277d9f5a5611c2c9f419d9f",
            ),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(hex(&digest(data.as_bytes())), expected, "{data}");
        }
    }

    #[test]
    fn hmacs_of_rfc_2202_section_2() {
        for (key, data, expected) in [
            (vec![0x0b; 16], b"Hi There".to_vec(), "9294727a3638bb1c13f48ef8158bfc9d"),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?".to_vec(),
                "750c783e6ab0b503eaa86e310a5db738",
            ),
            (vec![0xaa; 16], vec![0xdd; 50], "56be34521d144c88dbb8c733f0e8b3f6"),
            (
                vec![0xaa; 80],
                b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
                "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd",
            ),
        ] {
            let (inner, outer) = hmac_states(&key);
            assert_eq!(hex(&hmac(&inner, &outer, &data)), expected);
        }
    }

    #[test]
    fn every_length_about_a_block_is_padded_rightly() {
        // 55 octets leave just enough room for the length in the same block, 56 do not. Values are those of Python.
        assert_eq!(hex(&digest(&[b'x'; 55])), "04364420e25c512fd958a70738aa8f72");
        assert_eq!(hex(&digest(&[b'x'; 56])), "668a72d5ba17f08e62dabcafad6db14b");
        assert_eq!(hex(&digest(&[b'x'; 64])), "c1bb4f81d892b2d57947682aeb252456");
    }
}
