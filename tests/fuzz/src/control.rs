//! Messages between broker, host agent and desktop process: `[which]`, then JSON or text.

use crate::input::Input;
use lucarne_control::agent::{FromAgent, ToAgent};
use lucarne_control::api::{NewPool, NewSession, NewUser};
use lucarne_control::link::{Open, Opened};
use lucarne_control::spec::ImageDigest;
use lucarne_control::{DesktopId, SessionId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is understood is written so that it is understood again.
pub fn control(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 8 {
        0 => again::<Open>(input.0, true),
        1 => again::<Opened>(input.0, true),
        2 => again::<FromAgent>(input.0, false),
        3 => again::<ToAgent>(input.0, true),
        4 => again::<NewPool>(input.0, true),
        5 => again::<NewUser>(input.0, true),
        6 => again::<NewSession>(input.0, true),
        _ => names(input.0),
    }
}

/// `exact` where there are no fractions, which lose their last bit when they are read.
fn again<T: Serialize + DeserializeOwned>(bytes: &[u8], exact: bool) {
    let Ok(message) = serde_json::from_slice::<T>(bytes) else { return };
    let text = serde_json::to_string(&message).expect("plain data");
    let second: T = serde_json::from_str(&text).expect("what was written can be read");
    if exact {
        assert_eq!(serde_json::to_string(&second).expect("plain data"), text);
    }
}

fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = text.parse::<DesktopId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let _ = text.parse::<SessionId>();
    if let Ok(digest) = ImageDigest::try_from(text.to_owned()) {
        assert!(digest.as_str().len() == 64 && digest.as_str().starts_with(digest.short()));
    }
}
