//! RFB's handshake on both sides. TLS is left out: what comes after its start counts as decrypted.

use crate::input::{Input, pieces};
use lucarne_rfb::security::Password;
use lucarne_rfb::{Subtype, client, server};

const SUBTYPES: [Subtype; 4] = [Subtype::X509Plain, Subtype::X509None, Subtype::TlsPlain, Subtype::TlsNone];

/// A client's half: `[offer, pieces, verdict]`, then what the client sends.
pub fn server(data: &[u8]) {
    let mut input = Input(data);
    let (offer, cut, verdict) = (input.u8(), input.u8(), input.u8());
    let offer = match offer % 3 {
        0 => server::Offer::none(),
        1 => server::Offer::vencrypt(SUBTYPES.to_vec()),
        _ => server::Offer::vencrypt(SUBTYPES[..1].to_vec()),
    };
    let whole = serve(offer.clone(), [input.0], verdict);
    let parts = serve(offer, pieces(input.0, cut), verdict);
    // What stands in an error may depend on how much had come.
    assert_eq!((whole.0, whole.1.is_err()), (parts.0, parts.1.is_err()));
}

/// Plays the server; gives what it learnt, and how it ended.
fn serve<'a>(
    offer: server::Offer,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    verdict: u8,
) -> (Vec<String>, Result<(), String>) {
    let (mut out, mut learnt) = (Vec::new(), Vec::new());
    let mut handshake = server::Handshake::new(offer, &mut out);
    let mut messages: Option<server::ClientMessages> = None;
    for piece in pieces {
        if let Some(messages) = &mut messages {
            if let Err(error) = messages.feed(piece) {
                return (learnt, Err(error.to_string()));
            }
        } else {
            if let Err(error) = handshake.feed(piece) {
                return (learnt, Err(error.to_string()));
            }
            loop {
                let event = match handshake.poll(&mut out) {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => return (learnt, Err(error.to_string())),
                };
                // Passwords hide themselves.
                learnt.push(format!("{event:?}"));
                match event {
                    server::HandshakeEvent::StartTls(_) => {
                        let early = handshake.take_rest();
                        handshake.tls_started(&mut out).expect("nothing is left that came before TLS");
                        handshake.feed(&early).expect("it was held before");
                    }
                    server::HandshakeEvent::Plain { .. } if verdict & 1 == 0 => {
                        handshake.accept(&mut out).expect("it was asked");
                    }
                    server::HandshakeEvent::Plain { .. } => {
                        handshake.reject("no", &mut out);
                        return (learnt, Ok(()));
                    }
                    _ => {
                        let done = std::mem::replace(&mut handshake, ended());
                        messages = Some(done.into_messages());
                        break;
                    }
                }
            }
        }
        if let Some(messages) = &mut messages {
            loop {
                match messages.next_message() {
                    Ok(Some(message)) => learnt.push(format!("{message:?}")),
                    Ok(None) => break,
                    Err(error) => return (learnt, Err(error.to_string())),
                }
            }
        }
    }
    (learnt, Ok(()))
}

fn ended() -> server::Handshake {
    server::Handshake::new(server::Offer::none(), &mut Vec::new())
}

/// A server's half: `[wish, pieces]`, then what the server sends.
pub fn client(data: &[u8]) {
    let mut input = Input(data);
    let (wish, cut) = (input.u8(), input.u8());
    let want = match wish % 2 {
        0 => client::Want::None,
        _ => client::Want::VeNCrypt {
            subtypes: SUBTYPES[usize::from(wish >> 1) % SUBTYPES.len()..].to_vec(),
            user: "ada".to_owned(),
            password: Password::new("secret".to_owned()),
        },
    };
    let whole = connect(want.clone(), [input.0]);
    let parts = connect(want, pieces(input.0, cut));
    assert_eq!((whole.0, whole.1.is_err()), (parts.0, parts.1.is_err()));
}

fn connect<'a>(
    want: client::Want,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<String>, Result<(), String>) {
    let (mut out, mut learnt) = (Vec::new(), Vec::new());
    let mut handshake = client::Handshake::new(want);
    for piece in pieces {
        if let Err(error) = handshake.feed(piece) {
            return (learnt, Err(error.to_string()));
        }
        loop {
            match handshake.poll(&mut out) {
                Ok(Some(event)) => {
                    learnt.push(format!("{event:?}"));
                    if let client::HandshakeEvent::StartTls(_) = event {
                        let early = handshake.take_rest();
                        handshake.tls_started(&mut out).expect("nothing is left that came before TLS");
                        handshake.feed(&early).expect("it was held before");
                    }
                }
                Ok(None) => break,
                Err(error) => return (learnt, Err(error.to_string())),
            }
        }
    }
    (learnt, Ok(()))
}
