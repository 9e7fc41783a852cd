//! Recordings as a writer makes them, and blocks that are put together otherwise.

use super::{Seeds, with};
use lucarne_fuzz::recordings::part;
use lucarne_recording::{Header, VERSION, Writer};
use lucarne_rfb::server::write::{self as server, Update};
use lucarne_rfb::{PixelFormat, Rect, encodings as enc};
use std::time::Duration;

pub(super) fn seeds() -> Seeds {
    vec![("recording", recordings())]
}

/// What changed on a screen of 8×8 pixels.
fn update() -> Vec<u8> {
    let mut out = Vec::new();
    let mut update = Update::new(&mut out);
    update.rect(Rect::new(0, 0, 2, 2), enc::RAW).extend([0x55; 16]);
    update.finish();
    out
}

fn recordings() -> Vec<Vec<u8>> {
    let mut key = Vec::new();
    server::server_init(8, 8, &PixelFormat::BGRX, "desk-1", &mut key);
    key.extend(update());
    let header = Header {
        version: VERSION,
        desktop: "d".into(),
        name: "desk-1".into(),
        session: Some("s".into()),
        pool: None,
        started_at_ms: 5,
        keep_days: Some(3),
        keep_mib: None,
    };
    let whole = || -> std::io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new(), &header)?;
        writer.key(Duration::ZERO, &key)?;
        writer.update(Duration::from_millis(200), &update())?;
        writer.note(Duration::from_millis(300), "{}")?;
        writer.key(Duration::from_millis(400), &key)?;
        Ok(writer.finish(Duration::from_millis(500))?.0)
    };
    let file = whole().expect("memory takes everything");
    let cut = &file[..file.len() - 60];
    let blocks =
        [part(2, 0, &key), part(3, 9, &update()), part(2, 20, &key), part(3, 10, &update())].concat();
    // The header's block has some 200 bytes; an index that points before, into and behind the blocks.
    let index: Vec<u8> =
        [0u64, 1, 0, 230, 9, 100_000].iter().flat_map(|number| number.to_be_bytes()).collect();
    let ended = [&blocks[..], &part(5, 30, &index), &part(6, 30, &300u64.to_be_bytes())].concat();
    vec![with(&[0], &file), with(&[0], cut), with(&[1], &blocks), with(&[1], &ended)]
}
