//! VncAuth (2): a challenge and its response (rfbproto, "VNC Authentication").

use super::{Handshake, HandshakeError, State, Step, Want};
use crate::security::vnc_auth::{CHALLENGE, response};
use crate::wire::{Put, Reader};

impl Handshake {
    pub(super) fn on_challenge(&mut self, r: &mut Reader<'_>, out: &mut Vec<u8>) -> Step {
        let Some(Ok(challenge)) = r.bytes(CHALLENGE).map(<[u8; CHALLENGE]>::try_from) else {
            return Ok(None);
        };
        let Want::VncAuth { password } = &self.want else {
            return Err(HandshakeError::OutOfOrder("a challenge"));
        };
        out.put_bytes(&response(password.expose().as_bytes(), &challenge));
        self.state = State::Result;
        Ok(None)
    }
}
