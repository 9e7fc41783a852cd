//! VncAuth (2): a challenge and its response (rfbproto, "VNC Authentication").

use super::{Handshake, HandshakeEvent, Security, State, Step};
use crate::security::vnc_auth::CHALLENGE;
use crate::wire::Put;

impl Handshake {
    pub(super) fn start_vnc_auth(&mut self, challenge: [u8; CHALLENGE], out: &mut Vec<u8>) {
        self.security = Security::VncAuth;
        out.put_bytes(&challenge);
        self.state = State::VncAuth(challenge);
    }

    pub(super) fn on_response(
        &mut self,
        challenge: [u8; CHALLENGE],
        response: Option<[u8; CHALLENGE]>,
    ) -> Step {
        let Some(response) = response else { return Ok(None) };
        self.input.consume(CHALLENGE);
        self.state = State::Verdict;
        Ok(Some(HandshakeEvent::Response { challenge, response }))
    }
}
