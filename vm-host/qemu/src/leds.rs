//! The lights of the guest's keyboard: the property `Modifiers` of QEMU's D-Bus display (`ui/dbus-display1.xml`,
//! org.qemu.Display1.Keyboard), which the guest's keyboard driver sets.

use crate::dbus::CONSOLE;
use futures_util::StreamExt;
use lucarne_driver::{DisplaySink, Leds};
use std::collections::HashMap;
use std::sync::Arc;

use zbus::{Connection, MessageStream, OwnedVariant};

const KEYBOARD: &str = "org.qemu.Display1.Keyboard";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const MODIFIERS: &str = "Modifiers";

/// Tells the sink how they are, now and after each change, until the connection ends.
pub(crate) async fn follow(connection: Connection, sink: Arc<dyn DisplaySink>) {
    // Begun before the question, so that no change is missed.
    let mut messages = MessageStream::from(&connection);
    match ask(&connection).await {
        Ok(bits) => sink.leds(leds(bits)),
        // The desktop is as good without.
        Err(error) => tracing::warn!(%error, "the state of the keyboard's lights is not known"),
    }
    while let Some(Ok(message)) = messages.next().await {
        let header = message.header();
        let is_change = header.interface().is_some_and(|i| i == PROPERTIES)
            && header.member().is_some_and(|m| m == "PropertiesChanged")
            && header.path().is_some_and(|p| p == CONSOLE);
        if !is_change {
            continue;
        }
        let Ok((interface, mut changed, _)) =
            message.body().deserialize::<(String, HashMap<String, OwnedVariant>, Vec<String>)>()
        else {
            continue;
        };
        if let Some(bits) = changed.remove(MODIFIERS).filter(|_| interface == KEYBOARD)
            && let Ok(bits) = u32::try_from(bits)
        {
            sink.leds(leds(bits));
        }
    }
}

async fn ask(connection: &Connection) -> zbus::Result<u32> {
    let body = (KEYBOARD, MODIFIERS);
    let answer = connection.call_method(None::<&str>, CONSOLE, Some(PROPERTIES), "Get", &body).await?;
    let bits: OwnedVariant = answer.body().deserialize()?;
    u32::try_from(bits)
}

/// QEMU's bits: 1 scroll, 2 num, 4 caps (`ui/input.h`, `QEMU_SCROLL_LOCK_LED` and the next).
fn leds(bits: u32) -> Leds {
    Leds { scroll: bits & 1 != 0, num: bits & 2 != 0, caps: bits & 4 != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_light_has_its_bit() {
        assert_eq!(leds(0), Leds { scroll: false, num: false, caps: false });
        assert_eq!(leds(4 | 1), Leds { scroll: true, num: false, caps: true });
        assert_eq!(leds(2), Leds { scroll: false, num: true, caps: false });
    }
}
