//! How far sound is behind the picture: the player's clapper, seen and heard by a viewer.
//!
//! A sound counts as heard when its piece has come, later by as much as there is in front of it in the piece. A browser plays it
//! 20 ms later (its buffer against hiccups, larger once there were some), and presents a picture at its screen's next refresh.

use super::lucarne::Subject;
use super::table::Findings;
use crate::report::percentile;
use anyhow::{Context, Result, ensure};
use lucarne_player::clapper::{CLAPS, HIDDEN, LOG, PIPE_MS, SHOWN, SQUARE};
use lucarne_rfb::audio::Audio;
use lucarne_rfb::client::{Framebuffer, ServerEvent};
use lucarne_tests::guest::Guest;
use opusic_c::{Channels, Decoder, SampleRate};
use std::time::{Duration, Instant};

/// A sound above this, of 1, is the click.
const LOUD: f32 = 0.1;

/// Two claps are not as close as this.
const APART: Duration = Duration::from_millis(500);

/// The buffer of the web client's player on a link without hiccups (`web-client/src/viewer/playhead.ts`).
const BROWSER_MS: f64 = 20.0;

/// Measures, and takes out what the guest's own buffers keep.
pub fn measure(subject: &Subject, findings: &mut Findings) -> Result<()> {
    let peer = &subject.peer;
    let mut viewer = peer.view()?;
    viewer.listen()?;
    viewer.press('c')?;
    let mut decoder = Decoder::new(Channels::Stereo, SampleRate::Hz48000)
        .map_err(|e| anyhow::anyhow!("a decoder of Opus: {e:?}"))?;
    let (mut seen, mut heard): (Vec<Instant>, Vec<Instant>) = (Vec::new(), Vec::new());
    let note = |times: &mut Vec<Instant>, at: Instant| {
        if times.last().is_none_or(|last| at.saturating_duration_since(*last) > APART) {
            times.push(at);
        }
    };
    let end = Instant::now() + Duration::from_secs(u64::from(CLAPS) + 3);
    let mut was_shown = false;
    while Instant::now() < end {
        match viewer.next(end)? {
            Some(ServerEvent::Updated { .. }) => {
                let shown = is_shown(viewer.picture());
                if shown && !was_shown {
                    note(&mut seen, Instant::now());
                }
                was_shown = shown;
            }
            Some(ServerEvent::Audio(Audio::Data(packet))) => {
                let came = Instant::now();
                let mut samples = [0f32; 1920];
                decoder
                    .decode_float_to_slice(&packet, &mut samples, false)
                    .map_err(|e| anyhow::anyhow!("a packet that is not Opus: {e:?}"))?;
                if let Some(at) = samples.iter().position(|level| level.abs() > LOUD) {
                    note(&mut heard, came + Duration::from_secs_f64((at / 2) as f64 / 48_000.0));
                }
            }
            _ => {}
        }
    }
    let kept = kept(&Guest::of(&subject.dir))?;
    let behind = |seen: &Instant| {
        let all = heard.iter().map(|heard| signed_ms(*heard, *seen));
        all.min_by(|a, b| a.abs().total_cmp(&b.abs())).filter(|ms| ms.abs() < APART.as_secs_f64() * 1e3)
    };
    // The first is the beginning of everything.
    let lags: Vec<f64> = seen.iter().skip(1).filter_map(behind).collect();
    ensure!(
        lags.len() as u32 * 2 > CLAPS,
        "of {CLAPS} claps {} were seen and {} heard, and {} belong together",
        seen.len(),
        heard.len(),
        lags.len()
    );
    let mut put = |name: &str, value: f64| findings.put(peer, name.into(), value);
    put("sound_claps", lags.len() as f64);
    put("sound_guest_buffers_ms", kept);
    for (name, percent) in [("p50", 50), ("p99", 99)] {
        let lag = percentile(&lags, percent).context("no claps")?;
        put(&format!("sound_behind_{name}_ms"), lag);
        put(&format!("sound_sync_{name}_ms"), lag - kept);
        put(&format!("sound_sync_browser_{name}_ms"), lag - kept + BROWSER_MS);
    }
    Ok(())
}

fn is_shown(picture: &Framebuffer) -> bool {
    let at = usize::from(SQUARE.y + SQUARE.h / 2) * usize::from(picture.width());
    let pixel = picture.pixels().get(at + usize::from(SQUARE.x + SQUARE.w / 2)).copied().unwrap_or(HIDDEN);
    // JPEG does not keep it exactly.
    pixel & 0xff > (SHOWN & 0xff) / 2
}

fn signed_ms(a: Instant, b: Instant) -> f64 {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    a.checked_duration_since(b).map_or_else(|| -ms(b.saturating_duration_since(a)), ms)
}

/// What PulseAudio and the card keep in the guest, milliseconds, as its player was told: the middle of all answers.
fn kept(guest: &Guest) -> Result<f64> {
    let said =
        guest.must(&format!("tr '\\r' '\\n' <{LOG} | sed -n 's/.*Latency: \\([0-9]*\\) usec.*/\\1/p'"));
    let answers: Vec<f64> = said.lines().filter_map(|us| us.parse::<f64>().ok()).map(|us| us / 1e3).collect();
    Ok(percentile(&answers, 50).context("the guest does not say what its sound's buffers keep")? + PIPE_MS)
}
