//! A film's clapper: a white square and a click of sound at the same moment, once a second, to see how far apart they arrive.
//!
//! What is heard goes through `pacat`, as from any player. How long PulseAudio and the card still keep a sample that was written is
//! what `pacat` writes to [`LOG`]: a player asks for it (`pa_stream_get_latency`) and shows its pictures that much later. This one
//! does not, so it has to be taken out of what is measured.

use crate::canvas::Area;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

/// Claps of one run.
pub const CLAPS: u32 = 12;

/// Where the square is.
pub const SQUARE: Area = Area::new(320, 240, 64, 64);

/// The square's colours.
pub const SHOWN: u32 = 0x00ff_ffff;
/// Before and after.
pub const HIDDEN: u32 = 0;

/// Samples a second, of two channels.
const RATE: u32 = 48_000;

/// What is written at once.
const TICK_MS: u32 = 10;

/// What lies between here and `pacat`, bytes: the least that a pipe can hold. It is full, and sets the pace.
const PIPE: usize = 4096;

/// How long a sample waits in that pipe, behind what was written before it, milliseconds.
pub const PIPE_MS: f64 = (PIPE as f64 - 1920.0) / 192.0;

/// What `pacat` says.
pub const LOG: &str = "/tmp/lucarne-clapper.log";

/// Ticks from one clap to the next, the first of those that are heard, and how many are.
const ROUND: u32 = 100;
const FIRST: u32 = 50;
const LENGTH: u32 = 10;

/// The click's frequency.
const HZ: u32 = 1000;

/// Claps; `show` draws the square in a colour.
pub(crate) fn run(mut show: impl FnMut(u32) -> Result<()>) -> Result<()> {
    let mut pacat = Command::new("pacat")
        .args([
            "-v",
            "--playback",
            "--raw",
            "--format=s16le",
            "--rate=48000",
            "--channels=2",
            "--latency-msec=20",
        ])
        .stdin(Stdio::piped())
        .stderr(File::create(LOG).with_context(|| LOG.to_owned())?)
        .spawn()
        .context("pacat cannot be run")?;
    let mut sound = pacat.stdin.take().context("pacat takes no sound")?;
    rustix::pipe::fcntl_setpipe_size(&sound, PIPE)?;
    show(HIDDEN)?;
    for tick in 0..CLAPS * ROUND {
        let at = tick % ROUND;
        let heard = (FIRST..FIRST + LENGTH).contains(&at);
        sound.write_all(&samples(heard)).context("pacat has ended")?;
        match at {
            FIRST => show(SHOWN)?,
            at if at == FIRST + LENGTH => show(HIDDEN)?,
            _ => {}
        }
    }
    drop(sound);
    pacat.wait().context("pacat")?;
    Ok(())
}

/// Ten milliseconds, which are whole waves.
fn samples(heard: bool) -> Vec<u8> {
    let count = RATE / 1000 * TICK_MS;
    let level = |i: u32| {
        let wave = (f64::from(i * HZ) / f64::from(RATE) * std::f64::consts::TAU).sin();
        if heard { (wave * 16_000.0) as i16 } else { 0 }
    };
    (0..count).flat_map(|i| [level(i), level(i)]).flat_map(i16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_is_ten_milliseconds_of_whole_waves_and_silence_is_silent() {
        assert_eq!(samples(true).len(), 1920);
        assert_eq!(samples(true)[..4], [0; 4], "it begins where the last ended");
        assert!(samples(true).iter().any(|&byte| byte != 0) && samples(false).iter().all(|&byte| byte == 0));
    }
}
