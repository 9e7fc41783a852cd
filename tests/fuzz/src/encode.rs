//! What the display path writes, judged by the decoder: an input is `[encoding, format, width, height, budget]`, then
//! what the guest draws, a rectangle and a pattern at a time, with an update sent after each.

use crate::input::Input;
use crate::messages::{formats, small_rect};
use lucarne_display::{Encoder, Extras, Screen, UNLIMITED, ViewerDamage};
use lucarne_rfb::client::Viewer;
use lucarne_rfb::pixel::{PixelReader, PixelWriter};
use lucarne_rfb::{ClientEncodings, encodings as enc, server};

/// The largest screen, pixels each way: tiles have 64, and there may be a second one.
const LONGEST_SIDE: u16 = 110;

/// What the viewer sees is what the screen shows, in its format.
pub fn exactly(data: &[u8]) {
    let mut input = Input(data);
    let encoding = input.one_of(&[enc::TIGHT, enc::ZRLE, enc::HEXTILE, enc::ZLIB, enc::RAW]);
    let format = input.one_of(&formats());
    let mut side = || u16::from(input.u8()) % LONGEST_SIDE + 1;
    let (width, height) = (side(), side());
    let budget = if input.u8() & 1 == 0 { UNLIMITED } else { 3000 };
    let mut screen = Screen::new(width.into(), height.into()).expect("a small screen");
    let mut damage = ViewerDamage::new(&screen);
    let list = ClientEncodings::new(vec![encoding, enc::COPY_RECT]);
    let mut encoder = Encoder::new(format, list, width, height);
    let mut viewer = Viewer::new(None);
    let mut out = Vec::new();
    server::write::server_init(width, height, &format, "", &mut out);
    let mut picture = vec![0u32; usize::from(width) * usize::from(height)];
    for _ in 0..3 {
        draw(&mut picture, &screen, &mut input);
        let bytes: Vec<u8> = picture.iter().flat_map(|p| p.to_le_bytes()).collect();
        let change = screen.update(&bytes, usize::from(width) * 4, screen.rect()).expect("a whole frame");
        damage.apply(&change);
        while !damage.is_empty() {
            let changes = damage.take();
            let done = encoder.encode_update(&screen, changes, &Extras::default(), budget, &mut out);
            damage.put_back(done.expect("its own stream").rest);
        }
        viewer.feed(&out).expect("an update of a small screen");
        out.clear();
        while viewer.next_event().expect("what the encoder writes can be decoded").is_some() {}
        if input.is_empty() {
            break;
        }
    }
    let (to, from) = (PixelWriter::new(format), PixelReader::new(format));
    for (seen, shown) in viewer.framebuffer().pixels().iter().zip(screen.pixels()) {
        assert_eq!(*seen, from.rgb(to.value(*shown)), "{format:?}");
    }
}

fn draw(picture: &mut [u32], screen: &Screen, input: &mut Input<'_>) {
    let width = usize::from(screen.width());
    let (rect, pattern, colour) = (small_rect(input), input.u8(), input.u32() & 0x00ff_ffff);
    let Some(rect) = rect.intersection(&screen.rect()) else { return };
    let scale = usize::from(pattern >> 3).max(1);
    if pattern & 7 == 7 {
        // The whole picture moves up.
        picture.copy_within((scale * width).min(picture.len()).., 0);
        return;
    }
    for y in rect.y.into()..rect.bottom() as usize {
        for x in rect.x.into()..rect.right() as usize {
            let (step, noise) = ((x / scale + y) as u32, ((x ^ y << 7) as u32).wrapping_mul(2_654_435_761));
            picture[y * width + x] = match pattern & 7 {
                0 | 1 => colour,
                2 => {
                    if step.is_multiple_of(3) {
                        colour
                    } else {
                        !colour & 0x00ff_ffff
                    }
                }
                3 => colour ^ (step % 16),
                4 => colour.wrapping_add(step * 0x0001_0203) & 0x00ff_ffff,
                5 => noise >> 8,
                _ => colour ^ ((noise >> 28) * 0x0010_0f01),
            };
        }
    }
}
