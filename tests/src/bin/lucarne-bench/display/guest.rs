//! The player in a guest.

use anyhow::{Result, ensure};
use lucarne_tests::guest::Guest;

/// Brings the player into the guest and starts it on the guest's screen.
pub fn start_player(guest: &Guest, player: &[u8]) -> Result<()> {
    guest.wait("runuser -u user -- env DISPLAY=:0 xdpyinfo >/dev/null");
    guest.put("/usr/local/bin/lucarne-player", player);
    guest.must(
        "chmod 755 /usr/local/bin/lucarne-player && cd / && \
         (runuser -u user -- env DISPLAY=:0 XDG_RUNTIME_DIR=/run/user/1000 \
         lucarne-player >/run/player.log 2>&1 </dev/null &)",
    );
    let said = guest.wait_file("/run/player.log");
    ensure!(said.starts_with("ready "), "the player in the guest says: {said}");
    Ok(())
}
