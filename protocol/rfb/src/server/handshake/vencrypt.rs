//! VeNCrypt (19): a sub-type, TLS by the caller, and for some sub-types name and password (rfbproto, "VeNCrypt").

use super::{Handshake, HandshakeError, HandshakeEvent, Method, Security, State, Step};
use crate::security::{MAX_PASSWORD, MAX_USER, Password, Subtype};
use crate::wire::{Put, Reader};

impl Handshake {
    pub(super) fn start_vencrypt(&mut self, out: &mut Vec<u8>) {
        out.put_bytes(&[0, 2]);
        self.state = State::VeNCryptVersion;
    }

    fn subtypes(&self) -> &[Subtype] {
        let methods = self.offer.0.iter();
        let mut subtypes = methods.filter_map(|m| if let Method::VeNCrypt(s) = m { Some(s) } else { None });
        subtypes.next().map_or(&[], Vec::as_slice)
    }

    pub(super) fn on_vencrypt_version(&mut self, version: Option<[u8; 2]>, out: &mut Vec<u8>) -> Step {
        let Some([major, minor]) = version else { return Ok(None) };
        self.input.consume(2);
        if (major, minor) != (0, 2) {
            out.put_u8(1);
            return Err(HandshakeError::VeNCryptVersion(major, minor));
        }
        out.put_u8(0);
        out.put_u8(self.subtypes().len() as u8);
        self.subtypes().iter().for_each(|s| out.put_u32(s.number()));
        self.state = State::Subtype;
        Ok(None)
    }

    pub(super) fn on_subtype(&mut self, number: Option<[u8; 4]>, out: &mut Vec<u8>) -> Step {
        let Some(number) = number.map(u32::from_be_bytes) else { return Ok(None) };
        self.input.consume(4);
        let Some(&subtype) = self.subtypes().iter().find(|s| s.number() == number) else {
            out.put_u8(0);
            return Err(HandshakeError::Subtype(number));
        };
        out.put_u8(1);
        self.security = Security::VeNCrypt(subtype);
        self.state = State::Tls;
        Ok(Some(HandshakeEvent::StartTls(subtype)))
    }

    pub(super) fn on_plain(&mut self) -> Step {
        let mut reader = Reader::new(self.input.pending());
        let length = |what, length: Option<u32>, limit: usize| match length {
            Some(n) if n as usize > limit => Err(HandshakeError::TooLong { what, length: n, limit }),
            n => Ok(n.map(|n| n as usize)),
        };
        let Some(user_len) = length("user name", reader.u32(), MAX_USER)? else { return Ok(None) };
        let Some(password_len) = length("password", reader.u32(), MAX_PASSWORD)? else { return Ok(None) };
        let (Some(user), Some(password)) = (reader.bytes(user_len), reader.bytes(password_len)) else {
            return Ok(None);
        };
        let text =
            |what, bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| HandshakeError::NotUtf8(what));
        let (user, password) = (text("user name", user)?, Password::new(text("password", password)?));
        let n = reader.consumed();
        self.input.consume(n);
        self.state = State::Verdict;
        Ok(Some(HandshakeEvent::Plain { user, password }))
    }

    /// The caller's TLS is up: from here on it feeds decrypted bytes.
    ///
    /// # Errors
    /// TLS was not asked for, or bytes that came before it were not taken by [`Self::take_rest`]: they would otherwise
    /// count as encrypted, which is how STARTTLS injections work.
    pub fn tls_started(&mut self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let (State::Tls, Security::VeNCrypt(subtype)) = (self.state, self.security) else {
            return Err(HandshakeError::OutOfOrder("the start of TLS"));
        };
        if self.input.len() > 0 {
            return Err(HandshakeError::UnencryptedBytes(self.input.len()));
        }
        if subtype.is_plain() {
            self.state = State::Plain;
        } else {
            self.succeed(out);
        }
        Ok(())
    }
}
