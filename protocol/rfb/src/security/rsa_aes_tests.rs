//! Keys, padding and derivation, with RSA by OpenSSL as the broker has it.

use super::*;
use openssl::bn::BigNum;
use openssl::pkey::Private;
use openssl::rsa::{Padding, Rsa as Keys};
use std::sync::{Arc, OnceLock};

/// RSA for tests.
pub(crate) struct OpenSsl {
    keys: Keys<Private>,
    public: PublicKey,
}

impl OpenSsl {
    fn generate(bits: u32) -> Arc<Self> {
        let keys = Keys::generate(bits).unwrap();
        let public = PublicKey::new(&keys.n().to_vec(), &keys.e().to_vec()).unwrap();
        Arc::new(Self { keys, public })
    }

    /// A server's key, 1024 bits, the same in every call.
    pub(crate) fn server() -> Arc<Self> {
        static KEY: OnceLock<Arc<OpenSsl>> = OnceLock::new();
        Arc::clone(KEY.get_or_init(|| Self::generate(1024)))
    }

    /// A client's key of another length that is no number of whole bytes.
    pub(crate) fn client() -> Arc<Self> {
        static KEY: OnceLock<Arc<OpenSsl>> = OnceLock::new();
        Arc::clone(KEY.get_or_init(|| Self::generate(1100)))
    }
}

impl fmt::Debug for OpenSsl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenSsl")
    }
}

fn failed(e: openssl::error::ErrorStack) -> RsaError {
    RsaError(e.to_string())
}

impl Rsa for OpenSsl {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn encrypt(&self, to: &PublicKey, block: &[u8]) -> Result<Vec<u8>, RsaError> {
        let number = |bytes| BigNum::from_slice(bytes).unwrap();
        let key =
            Keys::from_public_components(number(to.modulus()), number(to.exponent())).map_err(failed)?;
        let mut out = vec![0; key.size() as usize];
        key.public_encrypt(block, &mut out, Padding::NONE).map_err(failed)?;
        Ok(out)
    }

    fn decrypt(&self, block: &[u8]) -> Result<Vec<u8>, RsaError> {
        let mut out = vec![0; self.keys.size() as usize];
        self.keys.private_decrypt(block, &mut out, Padding::NONE).map_err(failed)?;
        Ok(out)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), RsaError> {
        openssl::rand::rand_bytes(bytes).map_err(failed)
    }
}

fn modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; bits.div_ceil(8)];
    bytes[0] >>= (8 - bits % 8) % 8;
    bytes
}

fn read(wire: &[u8]) -> Result<Option<PublicKey>, KeyError> {
    PublicKey::read(&mut Reader::new(wire))
}

#[test]
fn a_key_goes_over_the_wire_and_back() {
    for bits in [1024, 1025, 1031, 1032, 2048, 8192] {
        let key = PublicKey::new(&modulus(bits), &[0, 1, 0, 1]).unwrap();
        assert_eq!((key.bits() as usize, key.modulus().len()), (bits, bits.div_ceil(8)));
        let mut wire = Vec::new();
        key.put(&mut wire);
        assert_eq!(wire.len(), 4 + 2 * bits.div_ceil(8));
        assert_eq!(read(&wire), Ok(Some(key)));
        assert_eq!(read(&wire[..wire.len() - 1]), Ok(None));
    }
}

#[test]
fn a_length_that_was_rounded_up_to_bytes_is_kept_for_the_hash() {
    let mut wire = Vec::new();
    PublicKey::new(&modulus(1030), &[3]).unwrap().put(&mut wire);
    wire[..4].copy_from_slice(&1032u32.to_be_bytes());
    let mut again = Vec::new();
    read(&wire).unwrap().unwrap().put(&mut again);
    assert_eq!(again, wire);
}

#[test]
fn keys_out_of_bounds_are_refused_at_their_length() {
    for bits in [0u32, 512, 1023, 8193, u32::MAX] {
        assert_eq!(read(&bits.to_be_bytes()), Err(KeyError::Length(bits)));
    }
    assert_eq!(PublicKey::new(&modulus(1023), &[3]), Err(KeyError::Length(1023)));
    assert_eq!(PublicKey::new(&[], &[3]), Err(KeyError::Length(0)));
}

#[test]
fn keys_that_are_none_are_refused() {
    let wire = |modulus: &[u8], exponent: &[u8]| {
        let mut wire = 1024u32.to_be_bytes().to_vec();
        wire.extend_from_slice(modulus);
        wire.resize(4 + 256 - exponent.len(), 0);
        wire.extend_from_slice(exponent);
        read(&wire)
    };
    let good = modulus(1024);
    let mut short = good.clone();
    short[0] = 0;
    let mut even = good.clone();
    even[127] = 0xfe;
    assert_eq!(wire(&short, &[3]), Err(KeyError::Modulus));
    assert_eq!(wire(&even, &[3]), Err(KeyError::Modulus));
    let exponents: [&[u8]; 4] = [&[0], &[1], &[4], &[1; 9]];
    for exponent in exponents {
        assert_eq!(wire(&good, exponent), Err(KeyError::Exponent), "{exponent:?}");
    }
    assert!(wire(&good, &[3]).is_ok() && wire(&good, &[1; 8]).is_ok());
}

/// Computed with Python's hashlib from the wire form: SHA-1 of `00000400 ff…ff 00…03`.
#[test]
fn the_fingerprint_is_eight_bytes_with_dashes() {
    let key = PublicKey::new(&modulus(1024), &[3]).unwrap();
    assert_eq!(key.fingerprint(), "3b-d3-92-79-92-34-64-dd");
}

#[test]
fn the_other_side_reads_the_random_number_that_was_sent() {
    let (server, client) = (OpenSsl::server(), OpenSsl::client());
    for kind in RsaAes::ALL {
        for (from, to) in [(&server, &client), (&client, &server)] {
            let mut wire = Vec::new();
            let sent = send_random(kind, &**from, to.public_key(), &mut wire).unwrap();
            assert_eq!(wire.len(), 2 + to.public_key().modulus().len());
            let read = |wire| read_random(kind, &**to, &mut Reader::new(wire)).unwrap();
            assert_eq!(read(&wire).unwrap().0, sent.0);
            assert!(read(&wire[..wire.len() - 1]).is_none());
        }
    }
}

#[test]
fn a_random_number_of_another_length_is_refused_before_it_has_arrived() {
    let error = read_random(RsaAes::Ra2, &*OpenSsl::server(), &mut Reader::new(&[0xff, 0xff])).unwrap_err();
    assert_eq!(error, RandomError::Length(65_535, 128));
}

#[test]
fn wrong_padding_gives_another_random_number_and_no_error() {
    let server = OpenSsl::server();
    let good = |secret: &[u8]| {
        let mut block = vec![0, 2];
        block.resize(128 - secret.len() - 1, 0x55);
        block.push(0);
        [&block, secret].concat()
    };
    let read = |block: &[u8]| {
        let mut wire = 128u16.to_be_bytes().to_vec();
        wire.extend(server.encrypt(server.public_key(), block).unwrap());
        read_random(RsaAes::Ra2, &*server, &mut Reader::new(&wire)).unwrap().unwrap().0
    };
    let secret = [7; 16];
    assert_eq!(read(&good(&secret)), secret);
    let spoil = |at: usize, byte| {
        let mut block = good(&secret);
        block[at] = byte;
        block
    };
    let bad = [
        ("the first byte", spoil(0, 1)),
        ("the block type", spoil(1, 1)),
        ("a zero in the filling", spoil(60, 0)),
        ("no end of the filling", spoil(111, 0x55)),
        ("a longer number", good(&[7; 17])),
        ("a shorter number", good(&[7; 15])),
    ];
    for (what, block) in bad {
        let (first, again) = (read(&block), read(&block));
        assert!(first != secret && first != again, "{what}");
        assert_eq!(first.len(), 16);
    }
}

#[test]
fn the_filling_has_no_zero_byte() {
    #[derive(Debug)]
    struct Zeros(Arc<OpenSsl>, std::sync::Mutex<Vec<u8>>);
    impl Rsa for Zeros {
        fn public_key(&self) -> &PublicKey {
            self.0.public_key()
        }
        fn encrypt(&self, _: &PublicKey, block: &[u8]) -> Result<Vec<u8>, RsaError> {
            *self.1.lock().unwrap() = block.to_vec();
            Ok(block.to_vec())
        }
        fn decrypt(&self, block: &[u8]) -> Result<Vec<u8>, RsaError> {
            self.0.decrypt(block)
        }
        fn random(&self, bytes: &mut [u8]) -> Result<(), RsaError> {
            // Half of what comes is zero.
            self.0.random(bytes)?;
            bytes.iter_mut().filter(|b| **b >= 128).for_each(|b| *b = 0);
            Ok(())
        }
    }
    let rsa = Zeros(OpenSsl::server(), std::sync::Mutex::default());
    send_random(RsaAes::Ra2, &rsa, rsa.public_key(), &mut Vec::new()).unwrap();
    let block = rsa.1.lock().unwrap();
    assert!(block[2..111].iter().all(|b| *b != 0), "{block:?}");
    assert_eq!((block[0], block[1], block[111]), (0, 2, 0));
}

/// Computed with Python's hashlib from the formulas of rfbproto.
#[test]
fn session_keys_are_those_of_the_specification() {
    let key = |kind: RsaAes, n: usize| {
        let (server, client) = (Secret(vec![1; n]), Secret(vec![2; n]));
        // ClientSessionKey = H(ServerRandom || ClientRandom), ServerSessionKey = H(ClientRandom || ServerRandom).
        let of = |key: Key| match key {
            Key::Aes128(k) => k.to_vec(),
            Key::Aes256(k) => k.to_vec(),
        };
        let hex = |k: Vec<u8>| k.iter().map(|b| format!("{b:02x}")).collect::<String>();
        [hex(of(kind.session_key(&server, &client))), hex(of(kind.session_key(&client, &server)))]
    };
    assert_eq!(
        key(RsaAes::Ra2, 16),
        ["ae08162f2a7989e6aeac927c2346c697", "9de59bbcf26b5adee32983762561b933"]
    );
    assert_eq!(
        key(RsaAes::Ra2_256, 32),
        [
            "f818afd37a6dc3bc92fb44731011277006db4efa6e9023cd7468c02335d22a4d",
            "c57d4f59c961b13e406cd991b0f342ec79e571dc2c1415ff72c6550645a3b198"
        ]
    );
}
