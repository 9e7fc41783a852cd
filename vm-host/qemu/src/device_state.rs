//! Mends the device state that QEMU writes for a display device with several outputs.
//!
//! From 9.1 on (10.0.2 is the version looked at), QEMU decides for each output whether its record has 40 bytes or 64, with the
//! layout of the framebuffer. For the second output it reads that decision from the wrong place
//! (`scanout_vmstate_after_v2` in its hw/display/virtio-gpu.c): from the lowest byte of an address on its heap, which is
//! below 2 in one start of sixteen. A state is loaded only when writer and reader have decided alike, so
//!
//! * a state with the short record is given the long one here, once, when it has been written, and
//! * a load that fails is repeated in a fresh QEMU ([`crate::vm::QemuVm::fork`]).
//!
//! For the third output the wrong place always holds 0, and for a fourth it is outside of the device: there are three.
//!
//! The stream's form: QEMU's docs/devel/migration/main.rst, "Stream structure"; the records: `virtio_gpu_save`.
//! The size of a device's parts is taken from the description at its end.

use serde_json::Value;
use std::ops::Range;

/// What starts a device's section.
const SECTION_FULL: u8 = 0x04;
/// What ends it, before its number.
const SECTION_FOOTER: u8 = 0x7e;
/// What starts the description at the end.
const DESCRIPTION: u8 = 0x06;

/// Bytes of an output's record without and with the framebuffer's layout.
const SHORT: usize = 40;
const LONG: usize = 64;

/// Why a device state is not as expected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceStateError {
    /// Not the form that is known.
    #[error("the device state has no {0} where one was expected: this version of QEMU writes another form")]
    Unknown(&'static str),
    /// The second display shows a picture in a form that is not known, and how it lies in memory was not written.
    #[error("the second display is on, and its framebuffer's layout was not written")]
    SecondDisplayOn,
}

use DeviceStateError::Unknown;

/// [`mend`], but a state of an unknown form stays as it is: that of a version of QEMU that nobody has tried, which may well load what
/// it writes.
///
/// # Errors
/// [`DeviceStateError::SecondDisplayOn`].
pub(crate) fn mend_if_known(state: &mut Vec<u8>) -> Result<bool, DeviceStateError> {
    match mend(state) {
        Err(error @ Unknown(_)) => {
            tracing::warn!(%error, "the device state stays as it was written");
            Ok(false)
        }
        done => done,
    }
}

/// Gives the second output its long record if it has the short one. Whether anything had to be done.
///
/// # Errors
/// When the state has an unknown form; it is unchanged then.
pub(crate) fn mend(state: &mut Vec<u8>) -> Result<bool, DeviceStateError> {
    let device = display_device(state)?;
    let (resources, outputs) = outputs(&state[device.clone()])?;
    let at = device.start + outputs;
    let count = be32(state, at + 4).ok_or(Unknown("number of outputs"))? as usize;
    let length = device.end - at;
    let both_short = 8 + LONG + SHORT + SHORT;
    if count != 3 || length != both_short {
        // One output, the usual form, that of a QEMU before 9.1, or that of one which decides as it should.
        return Ok(false);
    }
    let second = at + 8 + LONG;
    let layout =
        layout(&state[second..second + SHORT], &resources).ok_or(DeviceStateError::SecondDisplayOn)?;
    state.splice(second + SHORT..second + SHORT, layout.iter().flat_map(|word| word.to_be_bytes()));
    Ok(true)
}

/// A picture of the guest's, from which outputs show a part.
struct Resource {
    id: u32,
    width: u32,
    height: u32,
    format: u32,
}

/// How an output's picture lies in memory, as its record would say: format, bytes of a pixel, width, height, bytes of a row, where it
/// begins. The same that `virtio_gpu_set_scanout` makes of a resource that is no blob; `None` when it is another one.
fn layout(record: &[u8], resources: &[Resource]) -> Option<[u32; (LONG - SHORT) / 4]> {
    let id = be32(record, 0)?;
    if id == 0 {
        // Of an output without a picture nothing of this is read.
        return Some([0; (LONG - SHORT) / 4]);
    }
    let of = resources.iter().find(|resource| resource.id == id)?;
    // virtio 1.3, section 5.7.6.8, and pixman's names for the same.
    let format = match of.format {
        1 => 0x2002_8888,
        2 => 0x2002_0888,
        _ => return None,
    };
    let (x, y) = (be32(record, 12)?, be32(record, 16)?);
    let row = of.width.checked_mul(4)?;
    let start = y.checked_mul(row)?.checked_add(x.checked_mul(4)?)?;
    Some([format, 4, of.width, of.height, row, start])
}

/// Where the display device's own part lies: its resources and outputs.
fn display_device(state: &[u8]) -> Result<Range<usize>, DeviceStateError> {
    let description = description(state).ok_or(Unknown("description"))?;
    let devices = description["devices"].as_array().ok_or(Unknown("list of devices"))?;
    let device = devices.iter().find(|d| d["vmsd_name"] == "virtio-gpu").ok_or(Unknown("display device"))?;
    let name = device["name"].as_str().ok_or(Unknown("device's name"))?;
    let size = |field: &str| {
        let fields = device["fields"].as_array()?;
        let found = fields.iter().find(|f| f["name"] == field)?;
        usize::try_from(found["size"].as_u64()?).ok()
    };
    let transport = size("virtio").ok_or(Unknown("size of the transport's state"))?;
    let own = size("virtio-gpu").ok_or(Unknown("size of the device's state"))?;

    // `SECTION_FULL`, number, name with its length before it, instance, version.
    let mut head = vec![u8::try_from(name.len()).map_err(|_| Unknown("device's name"))?];
    head.extend_from_slice(name.as_bytes());
    let starts = (5..state.len().saturating_sub(head.len()))
        .filter(|&at| state[at..].starts_with(&head) && state[at - 5] == SECTION_FULL);
    for at in starts {
        let start = (at + head.len() + 8).checked_add(transport);
        let Some((start, end)) = start.and_then(|s| Some((s, s.checked_add(own)?))) else { continue };
        let number = &state[at - 4..at];
        let footer = state.get(end..).unwrap_or_default();
        if footer.first() == Some(&SECTION_FOOTER) && footer[1..].starts_with(number) {
            return Ok(start..end);
        }
    }
    Err(Unknown("section of the display device"))
}

/// The description of everything before it, with which the file ends.
fn description(state: &[u8]) -> Option<Value> {
    let at = (0..state.len().saturating_sub(5)).rev().find(|&at| {
        state[at] == DESCRIPTION && be32(state, at + 1).is_some_and(|n| at + 5 + n as usize == state.len())
    })?;
    serde_json::from_slice(&state[at + 5..]).ok()
}

/// The resources, and where the outputs' records start in the device's own part, after them.
fn outputs(device: &[u8]) -> Result<(Vec<Resource>, usize), DeviceStateError> {
    let (mut resources, mut at) = (Vec::new(), 0);
    loop {
        let word = |i: usize| be32(device, at + 4 * i).ok_or(Unknown("resource"));
        let id = word(0)?;
        if id == 0 {
            return Ok((resources, at + 4));
        }
        resources.push(Resource { id, width: word(1)?, height: word(2)?, format: word(3)? });
        let (width, height, pieces) = (word(1)? as usize, word(2)? as usize, word(4)? as usize);
        // Four bytes a pixel in all formats of virtio-gpu (virtio 1.3, section 5.7.6.8).
        let pixels = width.checked_mul(4).and_then(|stride| stride.checked_mul(height));
        let end = pieces
            .checked_mul(12)
            .and_then(|addresses| addresses.checked_add(pixels?)?.checked_add(at + 20))
            .filter(|&end| end <= device.len());
        at = end.ok_or(Unknown("resource"))?;
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const NAME: &str = "0000:00:01.0/virtio-gpu";
    /// Stands for what the transport keeps.
    const TRANSPORT: usize = 77;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    /// A stream with one resource of 4×2 pixels and outputs' records of these lengths, of which the first is on, and the second
    /// where it shows a resource, from (2, 1) on.
    fn stream(records: &[usize], second: Option<u32>) -> Vec<u8> {
        let mut own = words(&[7, 4, 2, 1, 2]);
        own.extend([0xaa; 2 * 12]);
        own.extend([0x55; 4 * 2 * 4]);
        own.extend(words(&[0, 1, records.len() as u32]));
        for (i, &length) in records.iter().enumerate() {
            let mut record = vec![0; length];
            if i == 0 {
                record[3] = 7;
            } else if let (1, Some(id)) = (i, second) {
                for (at, value) in [(0, id), (12, 2), (16, 1)] {
                    record[at..at + 4].copy_from_slice(&value.to_be_bytes());
                }
            }
            own.extend(record);
        }
        let mut all = b"QEVM\0\0\0\x03".to_vec();
        all.extend(section(1, "timer", &[9; 30]));
        // The guest's own data may look like anything.
        all.extend(section(2, "decoy", format!("\x04\0\0\0\x23\x17{NAME}").as_bytes()));
        let mut content = vec![3; TRANSPORT];
        content.extend(&own);
        all.extend(section(0x23, NAME, &content));
        all.extend(section(0x24, "last", &[1; 12]));
        all.push(0);
        let fields =
            json!([{ "name": "virtio", "size": TRANSPORT }, { "name": "virtio-gpu", "size": own.len() }]);
        let devices = json!([
            { "name": "timer", "vmsd_name": "timer", "fields": [] },
            { "name": NAME, "vmsd_name": "virtio-gpu", "fields": fields },
        ]);
        let text = json!({ "page_size": 4096, "devices": devices }).to_string();
        all.push(DESCRIPTION);
        all.extend(words(&[text.len() as u32]));
        all.extend(text.as_bytes());
        all
    }

    fn section(number: u32, name: &str, content: &[u8]) -> Vec<u8> {
        let mut all = vec![SECTION_FULL];
        all.extend(words(&[number]));
        all.push(name.len() as u8);
        all.extend(name.as_bytes());
        all.extend(words(&[0, 1]));
        all.extend(content);
        all.push(SECTION_FOOTER);
        all.extend(words(&[number]));
        all
    }

    #[test]
    fn a_short_record_of_the_second_output_becomes_the_long_one() {
        let mut state = stream(&[LONG, SHORT, SHORT], None);
        let usual = stream(&[LONG, LONG, SHORT], None);
        assert_eq!(mend(&mut state), Ok(true));
        // The description keeps the old size; QEMU does not read it.
        let end = usual.len() - 200;
        assert_eq!(state[..end], usual[..end]);
        assert_eq!(state.len(), usual.len());
    }

    #[test]
    fn other_forms_stay_as_they_are() {
        for records in [&[LONG, LONG, SHORT][..], &[LONG, LONG, LONG], &[SHORT, SHORT, SHORT], &[LONG]] {
            let before = stream(records, None);
            let mut state = before.clone();
            assert_eq!(mend(&mut state), Ok(false), "{records:?}");
            assert_eq!(state, before, "{records:?}");
        }
    }

    #[test]
    fn how_a_second_displays_picture_lies_follows_from_its_place_in_the_picture() {
        let mut state = stream(&[LONG, SHORT, SHORT], Some(7));
        let before = state.clone();
        assert_eq!(mend(&mut state), Ok(true));
        let record = state.windows(8).position(|w| w == [0, 0, 0, 1, 0, 0, 0, 3]).unwrap() + 8 + LONG;
        let added = &state[record + SHORT..record + LONG];
        assert_eq!(added, words(&[0x2002_8888, 4, 4, 2, 16, 16 + 8]), "at (2, 1) of 4 by 2 pixels");
        assert_eq!(state.len(), before.len() + LONG - SHORT);
    }

    #[test]
    fn a_layout_that_was_lost_is_not_made_up() {
        let before = stream(&[LONG, SHORT, SHORT], Some(8));
        let mut state = before.clone();
        assert_eq!(mend(&mut state), Err(DeviceStateError::SecondDisplayOn), "there is no such picture");
        assert_eq!(state, before);
    }

    #[test]
    fn a_state_without_a_display_device_is_refused_with_what_is_missing() {
        let error = mend(&mut section(1, "timer", &[9; 30])).unwrap_err();
        assert!(error.to_string().contains("no description"), "{error}");
    }

    proptest! {
        /// What a guest did to its device, or a disk to the file, ends in an answer.
        #[test]
        fn any_bytes_get_an_answer(
            cut in 0usize..700, at in 0usize..700, with in any::<u8>(), short in any::<bool>(),
        ) {
            let mut state = stream(&[LONG, if short { SHORT } else { LONG }, SHORT], None);
            let length = state.len();
            state[at % length] = with;
            let _ = mend(&mut state);
            state.truncate(length - cut % length);
            let _ = mend(&mut state);
        }
    }
}
