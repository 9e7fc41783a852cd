//! VncAuth (2): a password as the key of DES, a random challenge as what it encrypts.
//!
//! The server sees only the response, so it needs the password itself to compare, and at most eight bytes of it count.
//! DES falls to a search by machine in hours, and nothing is encrypted afterwards: of use for passwords that are random,
//! good for one connection and short-lived, and for no others.
//!
//! Source: rfbproto, "VNC Authentication".

use des::Des;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// Bytes of a challenge and of its response.
pub const CHALLENGE: usize = 16;

/// The bytes of a password that count.
pub const PASSWORD: usize = 8;

/// What a client that has the password answers to a challenge. Bytes after the eighth do not count.
#[must_use]
pub fn response(password: &[u8], challenge: &[u8; CHALLENGE]) -> [u8; CHALLENGE] {
    let mut key = [0; PASSWORD];
    // In each byte the lowest bit comes first here, and the highest in DES.
    key.iter_mut().zip(password).for_each(|(k, p)| *k = p.reverse_bits());
    let des = Des::new(&Array::from(key));
    let mut response = *challenge;
    for block in response.chunks_exact_mut(8) {
        let mut text = Array::default();
        text.copy_from_slice(block);
        des.encrypt_block(&mut text);
        block.copy_from_slice(&text);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(block: u64) -> [u8; CHALLENGE] {
        let mut challenge = [0; CHALLENGE];
        challenge.chunks_exact_mut(8).for_each(|half| half.copy_from_slice(&block.to_be_bytes()));
        challenge
    }

    /// NIST SP 800-17, appendix A, table 4: the S-box test, of which three rows.
    #[test]
    fn it_is_des_with_each_byte_of_the_key_reversed() {
        let rows: [(u64, u64, u64); 3] = [
            (0x7ca1_1045_4a1a_6e57, 0x01a1_d6d0_3977_6742, 0x690f_5b0d_9a26_939b),
            (0x0131_d961_9dc1_376e, 0x5cd5_4ca8_3def_57da, 0x7a38_9d10_354b_d271),
            (0x07a1_133e_4a0b_2686, 0x0248_d438_06f6_7172, 0x868e_bb51_cab4_599a),
        ];
        for (key, text, cipher) in rows {
            let password = key.to_be_bytes().map(u8::reverse_bits);
            assert_eq!(response(&password, &twice(text)), twice(cipher));
        }
    }

    /// What vncpasswd writes for "password": the same function with its published key.
    #[test]
    fn it_gives_what_vncpasswd_writes() {
        let key = [23, 82, 107, 6, 35, 78, 88, 7];
        let written = twice(0xdbd8_3cfd_727a_1458);
        assert_eq!(response(&key, &twice(u64::from_be_bytes(*b"password"))), written);
    }

    #[test]
    fn the_halves_are_encrypted_each_for_itself() {
        let mut challenge = twice(0);
        challenge[15] = 1;
        let answer = response(b"secret", &challenge);
        assert_eq!(answer[..8], response(b"secret", &twice(0))[..8]);
        assert_ne!(answer[..8], answer[8..]);
    }

    #[test]
    fn a_short_password_is_filled_up_and_a_long_one_cut() {
        let challenge = twice(42);
        assert_eq!(response(b"abc", &challenge), response(b"abc\0\0\0\0\0", &challenge));
        assert_eq!(response(b"12345678", &challenge), response(b"123456789", &challenge));
        assert_ne!(response(b"1234567", &challenge), response(b"12345678", &challenge));
    }
}
