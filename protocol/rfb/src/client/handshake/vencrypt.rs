//! VeNCrypt (19): a sub-type, TLS by the caller, and for some sub-types name and password (rfbproto, "VeNCrypt").

use super::{Handshake, HandshakeError, HandshakeEvent, State, Step, Want};
use crate::security::{MAX_PASSWORD, MAX_USER};
use crate::wire::{Put, Reader};

impl Handshake {
    pub(super) fn on_vencrypt_version(&mut self, r: &mut Reader<'_>, out: &mut Vec<u8>) -> Step {
        let (Some(major), Some(minor)) = (r.u8(), r.u8()) else { return Ok(None) };
        if (major, minor) < (0, 2) {
            return Err(HandshakeError::VeNCryptVersion);
        }
        out.put_bytes(&[0, 2]);
        self.state = State::VeNCryptAck;
        Ok(None)
    }

    pub(super) fn on_vencrypt_ack(&mut self, r: &mut Reader<'_>) -> Step {
        match r.u8() {
            None => Ok(None),
            Some(0) => {
                self.state = State::Subtypes;
                Ok(None)
            }
            Some(_) => Err(HandshakeError::VeNCryptVersion),
        }
    }

    pub(super) fn on_subtypes(&mut self, r: &mut Reader<'_>, out: &mut Vec<u8>) -> Step {
        let Some(count) = r.u8() else { return Ok(None) };
        let Some(body) = r.bytes(usize::from(count) * 4) else { return Ok(None) };
        let offered: Vec<u32> =
            body.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
        let Want::VeNCrypt { subtypes, .. } = &self.want else {
            return Err(HandshakeError::OutOfOrder("a list of sub-types"));
        };
        let Some(&subtype) = subtypes.iter().find(|s| offered.contains(&s.number())) else {
            return Err(HandshakeError::NoCommonType(offered));
        };
        out.put_u32(subtype.number());
        self.subtype = Some(subtype);
        self.state = State::SubtypeAck;
        Ok(None)
    }

    pub(super) fn on_subtype_ack(&mut self, r: &mut Reader<'_>) -> Step {
        match (r.u8(), self.subtype) {
            (None, _) => Ok(None),
            (Some(1), Some(subtype)) => {
                self.state = State::Tls;
                Ok(Some(HandshakeEvent::StartTls(subtype)))
            }
            _ => Err(HandshakeError::SubtypeRefused),
        }
    }

    /// The caller's TLS is up: writes the credentials where the sub-type has them.
    ///
    /// # Errors
    /// TLS was not asked for, or unencrypted bytes came first.
    pub fn tls_started(&mut self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let (State::Tls, Some(subtype)) = (self.state, self.subtype) else {
            return Err(HandshakeError::OutOfOrder("the start of TLS"));
        };
        if self.input.len() > 0 {
            return Err(HandshakeError::UnencryptedBytes(self.input.len()));
        }
        if let (true, Want::VeNCrypt { user, password, .. }) = (subtype.is_plain(), &self.want) {
            let password = password.expose();
            if user.len() > MAX_USER || password.len() > MAX_PASSWORD {
                return Err(HandshakeError::CredentialsTooLong);
            }
            out.put_u32(user.len() as u32);
            out.put_u32(password.len() as u32);
            out.put_bytes(user.as_bytes());
            out.put_bytes(password.as_bytes());
        }
        self.state = State::Result;
        Ok(())
    }
}
