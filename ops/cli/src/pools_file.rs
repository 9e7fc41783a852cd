//! The file of pools, `pools.toml`: what each pool is, in `[[pool]]` tables with the API's names of fields.
//!
//! What a table does not say is the default, so that the file alone says what a pool is. Knows nothing of servers.

use lucarne_control::api::{Image, NewPool, Pool};
use lucarne_control::pool::{HomePolicy, PlacementPolicy, PoolKind, PowerPolicy, ReadyPolicy, SessionLimits};
use lucarne_control::snapshot::SnapshotPolicy;
use lucarne_control::spec::{ClipboardPolicy, MachineShape, NetworkPolicy, RecordingMode, RecordingPolicy};
use lucarne_control::viewer::ShadowPolicy;
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a file says.
#[derive(Debug, Default)]
pub struct PoolsFile {
    /// Its pools, in its order.
    pub pools: Vec<NewPool>,
    /// Where each begins, by name: lines from 1.
    pub lines: BTreeMap<String, usize>,
    /// It says what pools there are, be it none.
    pub lists: bool,
}

/// All that is wrong with a file, a line each: `line:column: what`.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

/// A table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<String>,
    #[serde(default)]
    description: String,
    image: String,
    #[serde(default)]
    machine: Machine,
    #[serde(default)]
    network: NetworkPolicy,
    #[serde(default)]
    shadow: ShadowPolicy,
    #[serde(default)]
    shadow_control: bool,
    audio: Option<bool>,
    #[serde(default)]
    clipboard: ClipboardPolicy,
    #[serde(default)]
    recording: Recording,
    #[serde(default)]
    kind: PoolKind,
    #[serde(default)]
    ready: Strict<ReadyPolicy>,
    #[serde(default)]
    limits: Strict<SessionLimits>,
    #[serde(default)]
    power: Strict<PowerPolicy>,
    #[serde(default)]
    placement: Strict<PlacementPolicy>,
    #[serde(default)]
    home: Strict<HomePolicy>,
    #[serde(default)]
    snapshots: Strict<SnapshotPolicy>,
    max_desktops: Option<u32>,
    #[serde(default)]
    entitled_users: Vec<String>,
    #[serde(default)]
    entitled_groups: Vec<String>,
}

/// What of a machine is written; the rest is as machines are.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    memory_mib: Option<u32>,
    vcpus: Option<u32>,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    #[serde(default)]
    mode: RecordingMode,
    days: Option<u32>,
    mib: Option<u64>,
}

/// What is read with all of its words understood: one that is not known would be a wish that nobody fulfils.
#[derive(Default)]
struct Strict<T>(T);

impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Value::deserialize(deserializer)?;
        let read: T = serde_json::from_value(written.clone()).map_err(D::Error::custom)?;
        let understood = serde_json::to_value(&read).map_err(D::Error::custom)?;
        match unknown(&written, &understood) {
            Some((field, known)) => {
                Err(D::Error::custom(format!("unknown field `{field}`, expected one of {known}")))
            }
            None => Ok(Self(read)),
        }
    }
}

/// The first word that was not understood, and those that would have been. Names of labels are people's own.
fn unknown(written: &Value, understood: &Value) -> Option<(String, String)> {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => written.iter().find_map(|(name, value)| {
            let known = || understood.keys().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
            match understood.get(name) {
                Some(inner) => unknown(value, inner),
                None => Some((name.clone(), known())),
            }
        }),
        (Value::Array(written), Value::Array(understood)) => {
            written.iter().zip(understood).find_map(|(value, inner)| unknown(value, inner))
        }
        _ => None,
    }
}

impl From<Machine> for MachineShape {
    fn from(written: Machine) -> Self {
        let rest = Self::default();
        Self {
            memory_mib: written.memory_mib.unwrap_or(rest.memory_mib),
            vcpus: written.vcpus.unwrap_or(rest.vcpus),
            width: written.width.unwrap_or(rest.width),
            height: written.height.unwrap_or(rest.height),
        }
    }
}

impl From<Written> for NewPool {
    fn from(written: Written) -> Self {
        let Recording { mode, days, mib } = written.recording;
        Self {
            name: written.name.into_inner(),
            description: written.description,
            image: written.image,
            machine: Some(written.machine.into()),
            network: written.network,
            shadow: written.shadow,
            shadow_control: written.shadow_control,
            audio: written.audio,
            clipboard: written.clipboard,
            recording: RecordingPolicy { mode, days, mib },
            kind: written.kind,
            ready: written.ready.0,
            limits: written.limits.0,
            power: written.power.0,
            placement: written.placement.0,
            home: written.home.0,
            snapshots: written.snapshots.0,
            max_desktops: written.max_desktops,
            entitled_users: written.entitled_users,
            entitled_groups: written.entitled_groups,
        }
    }
}

/// Line and column of a place in a text, from 1; columns are characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
}

fn fault(text: &str, span: Option<Range<usize>>, what: &str) -> String {
    let (line, column) = place(text, span.map_or(0, |span| span.start));
    format!("{line}:{column}: {}", what.trim().replace('\n', ", "))
}

/// Reads a file's text.
///
/// # Errors
/// [`Faults`]: all of what is no TOML; else of each table the first that it cannot say, and names that are there twice.
pub fn parse(text: &str) -> Result<PoolsFile, Faults> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(Faults(errors.iter().map(|e| fault(text, e.span(), e.message())).collect()));
    }
    let (mut file, mut faults) = (PoolsFile::default(), Vec::new());
    for (key, value) in root.into_inner() {
        if key.get_ref() != "pool" {
            let what =
                format!("there is no key {:?} here; each pool is a table under [[pool]]", key.get_ref());
            faults.push(fault(text, Some(key.span()), &what));
            continue;
        }
        let span = value.span();
        let DeValue::Array(tables) = value.into_inner() else {
            faults.push(fault(text, Some(span), "pools are a list of tables; write [[pool]] above each"));
            continue;
        };
        file.lists = true;
        for table in tables {
            read(text, table, &mut file, &mut faults);
        }
    }
    if faults.is_empty() { Ok(file) } else { Err(Faults(faults)) }
}

fn read(text: &str, table: Spanned<DeValue<'_>>, file: &mut PoolsFile, faults: &mut Vec<String>) {
    let span = table.span();
    let name = table.get_ref().get("name").and_then(|name| name.get_ref().as_str()).map(str::to_owned);
    match Written::deserialize(table.into_deserializer()) {
        Ok(written) => {
            let (line, _) = place(text, written.name.span().start);
            let name = written.name.get_ref().clone();
            if let Some(first) = file.lines.get(&name) {
                let what = format!("there is a pool {name:?} in line {first} already; a name is one pool's");
                faults.push(fault(text, Some(written.name.span()), &what));
            } else {
                file.lines.insert(name, line);
            }
            file.pools.push(written.into());
        }
        Err(e) => {
            let of = name.map(|name| format!("pool {name:?}: ")).unwrap_or_default();
            faults.push(fault(text, e.span().or(Some(span)), &format!("{of}{}", e.message())));
        }
    }
}

/// A value as TOML writes it in a line; the API's words are strings, numbers, and lists of strings.
fn value(value: impl Serialize) -> String {
    toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default()
}

/// The file that says what these pools are. Of the images only the names are used, as comments: a digest stands for the same
/// image for ever, a name for the newest of that name.
pub fn write(pools: &[Pool], images: &[Image]) -> String {
    let mut text = "# Pools, as `lucarne apply -f FILE` takes them.\n".to_owned();
    if pools.is_empty() {
        text += "\npool = []\n";
    }
    for pool in pools {
        let MachineShape { memory_mib, vcpus, width, height } = pool.machine;
        let image = images.iter().find(|image| image.digest == pool.image);
        let comment = image.map(|i| format!("  # {} {}", i.name, i.version)).unwrap_or_default();
        let comment: String = comment.chars().filter(|c| !c.is_control()).collect();
        let mut recording = format!("{{ mode = {}", value(pool.recording.mode));
        let _ = pool.recording.days.map(|days| write!(recording, ", days = {days}"));
        let _ = pool.recording.mib.map(|mib| write!(recording, ", mib = {mib}"));
        let lines = [
            ("name", value(&pool.name)),
            ("description", value(&pool.description)),
            ("image", value(pool.image.as_str()) + &comment),
            (
                "machine",
                format!(
                    "{{ memory_mib = {memory_mib}, vcpus = {vcpus}, width = {width}, height = {height} }}"
                ),
            ),
            ("max_desktops", value(pool.max_desktops)),
            ("network", value(pool.network)),
            ("audio", value(pool.audio)),
            ("clipboard", value(pool.clipboard)),
            ("recording", recording + " }"),
            ("kind", value(pool.kind)),
            ("ready", value(&pool.ready)),
            ("limits", value(pool.limits)),
            ("power", value(pool.power)),
            ("placement", value(&pool.placement)),
            ("home", value(pool.home)),
            ("snapshots", value(pool.snapshots)),
            ("shadow", value(pool.shadow)),
            ("shadow_control", value(pool.shadow_control)),
            ("entitled_users", value(&pool.entitled_users)),
            ("entitled_groups", value(&pool.entitled_groups)),
        ];
        text += "\n[[pool]]\n";
        for (field, value) in lines {
            let _ = writeln!(text, "{field} = {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_control::PoolId;
    use lucarne_control::pool::{ReadyWindow, Weekday};
    use lucarne_control::spec::ImageDigest;

    fn faults(text: &str) -> Vec<String> {
        parse(text).unwrap_err().0
    }

    #[test]
    fn what_a_table_does_not_say_is_the_default() {
        let file =
            parse("# pools\n\n[[pool]]\nname = \"lab\"\nimage = \"debian\"\nmachine.vcpus = 4\n").unwrap();
        let pool = &file.pools[0];
        assert_eq!((pool.name.as_str(), pool.image.as_str(), file.lines["lab"]), ("lab", "debian", 4));
        assert_eq!(pool.machine, Some(MachineShape { vcpus: 4, ..MachineShape::default() }));
        assert_eq!((pool.audio, pool.max_desktops, pool.clipboard), (None, None, ClipboardPolicy::Both));
        assert!(pool.entitled_users.is_empty() && pool.entitled_groups.is_empty());
        for (text, lists) in [("pool = []", true), ("", false), ("# no pool", false)] {
            let file = parse(text).unwrap();
            assert_eq!((file.pools.len(), file.lists), (0, lists), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_all_at_once() {
        let text = "\
pols = 1
[[pool]]
name = \"one\"
image = \"debian\"
max_desktop = 5
[[pool]]
name = \"two\"
image = 7
[[pool]]
image = \"debian\"
[[pool]]
name = \"three\"
image = \"debian\"
[[pool]]
name = \"three\"
image = \"debian\"
[[pool]]
name = \"four\"
image = \"debian\"
recording = { mode = \"sometimes\" }
[[pool]]
name = \"five\"
image = \"debian\"
max_desktops = -1
[[pool]]
name = \"six\"
image = \"debian\"
[[pool.ready.windows]]
from = \"08:00\"
to = \"18:00\"
mins = 4
min = 4
";
        let told = faults(text);
        let parts = [
            ("1:1: ", "there is no key \"pols\" here; each pool is a table under [[pool]]"),
            ("5:1: ", "pool \"one\": unknown field `max_desktop`, expected one of `name`"),
            ("8:9: ", "pool \"two\": invalid type: integer `7`, expected a string"),
            ("9:1: ", "missing field `name`"),
            ("15:8: ", "there is a pool \"three\" in line 12 already"),
            (
                "20:22: ",
                "pool \"four\": unknown variant `sometimes`, expected one of `off`, `on`, `required`",
            ),
            ("24:16: ", "pool \"five\": invalid value: integer `-1`, expected u32"),
            ("28:", "pool \"six\": unknown field `mins`, expected one of `days`, `from`, `min`, `to`"),
        ];
        assert_eq!(told.len(), parts.len(), "{told:#?}");
        for part in parts {
            let found = told.iter().any(|told| told.starts_with(part.0) && told.contains(part.1));
            assert!(found, "{part:?}: {told:#?}");
        }
    }

    #[test]
    fn what_is_no_toml_is_said_with_its_place() {
        let told = faults("[[pool]]\nname = \"lab\nimage = \"debian\"\nname = \n");
        assert!(told.len() > 1 && told[0].starts_with("2:"), "{told:#?}");
        for single in ["[pool]\nname = \"lab\"\n", "pool = 5\n"] {
            let told = faults(single);
            assert!(told[0].contains("write [[pool]] above each"), "{told:?}");
        }
        assert!(faults("pool = [5]")[0].starts_with("1:9: "));
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_pool() {
        let pool = Pool {
            id: PoolId::generate(),
            name: "lab".to_owned(),
            description: "\"quoted\" \\ and\nin two lines [[pool]] \u{7}".to_owned(),
            image: ImageDigest::try_from("ab".repeat(32)).unwrap(),
            machine: MachineShape { memory_mib: 4096, vcpus: 3, width: 1920, height: 1080 },
            network: NetworkPolicy::None,
            shadow: ShadowPolicy::WithConsent,
            shadow_control: true,
            audio: false,
            clipboard: ClipboardPolicy::ToDesktop,
            recording: RecordingPolicy { mode: RecordingMode::Required, days: Some(30), mib: None },
            kind: PoolKind::Personal,
            ready: ReadyPolicy {
                min: 2,
                windows: vec![ReadyWindow {
                    days: vec![Weekday::Mon, Weekday::Fri],
                    from: "08:00".to_owned(),
                    to: "18:00".to_owned(),
                    min: 9,
                }],
                time_zone: Some("Europe/Berlin".to_owned()),
                holidays: vec!["2026-12-25".to_owned()],
                ..ReadyPolicy::default()
            },
            limits: SessionLimits { idle_s: Some(900), ..SessionLimits::default() },
            power: PowerPolicy { off_after_s: Some(60), suspend_after_s: None },
            home: HomePolicy { size_gib: Some(20) },
            snapshots: SnapshotPolicy { every_s: Some(86_400), keep: Some(30), ..Default::default() },
            placement: PlacementPolicy {
                labels: BTreeMap::from([("site".to_owned(), "north".to_owned())]),
                ..PlacementPolicy::default()
            },
            waiting: 1,
            max_desktops: 7,
            entitled_users: vec!["ada".to_owned(), "ben".to_owned()],
            entitled_groups: Vec::new(),
            desktops: 3,
            templates: Vec::new(),
            created_at: 5,
        };
        let image = Image {
            digest: pool.image.clone(),
            name: "debian\nname = \"other\"".to_owned(),
            version: "1".to_owned(),
            description: String::new(),
            virtual_size: 1,
            stored_size: 1,
            created_at: 1,
            source: String::new(),
            hosts: Vec::new(),
        };
        let other = Pool { name: "second".to_owned(), recording: RecordingPolicy::default(), ..pool.clone() };
        let text = write(&[pool.clone(), other.clone()], &[image]);
        let file = parse(&text).unwrap();
        assert_eq!(file.pools.len(), 2, "{text}");
        for (read, was) in file.pools.iter().zip([pool, other]) {
            // All that both have.
            let read = serde_json::to_value(read).unwrap();
            let was = serde_json::to_value(was).unwrap();
            for (field, value) in read.as_object().unwrap() {
                assert_eq!(value, &was[field], "{field}: {text}");
            }
        }
        assert!(parse(&write(&[], &[])).unwrap().pools.is_empty());
    }
}
