//! JSON between Lucarne's processes, and recipes.

use super::{Seeds, with};

pub(super) fn seeds() -> Seeds {
    vec![("control", messages()), ("recipe", recipes())]
}

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn messages() -> Vec<Vec<u8>> {
    let template = format!(
        r#"{{"image":"{DIGEST}","machine":{{"memory_mib":1024,"vcpus":2,"width":1280,"height":800}}}}"#
    );
    [
        (0, format!(r#"{{"desktop":"{ID}","generation":3,"session":"{ID}","purpose":{{"kind":"view"}}}}"#)),
        (0, format!(r#"{{"desktop":"{ID}","generation":3,"session":null,"purpose":{{"kind":"thumbnail","width":4294967295}}}}"#)),
        (1, r#"{"result":"refused","reason":"no"}"#.into()),
        (2, r#"{"type":"hello","protocol":1,"host":"h","version":"0","facts":{"cpus":2,"memory_mib":9,"driver":"qemu","driver_version":"10","accel":"tcg","accel_reason":"x"}}"#.into()),
        (2, format!(r#"{{"type":"observed","complete":true,"images":null,"templates":[{{"spec":{template},"state":"ready","cold_boot_s":28.5}}],"desktops":[{{"desktop":"{ID}","generation":1,"phase":"ready","endpoint":{{"kind":"unix","path":"/s"}},"timings":{{"loaded_ms":87.25}}}}]}}"#)),
        (2, r#"{"type":"heartbeat","disk_free":18446744073709551615,"memory_available":0}"#.into()),
        (3, format!(r#"{{"type":"desired","revision":1,"templates":[{template}],"desktops":[{{"desktop":"{ID}","generation":1,"state":"running","template":{template},"identity":{{"hostname":"h","machine_id":"m","mac":"x"}},"network":"none"}}]}}"#)),
        (3, format!(r#"{{"type":"delete_image","digest":"{DIGEST}"}}"#)),
        (4, format!(r#"{{"name":"lab","image":"{DIGEST}","machine":{{"memory_mib":1,"vcpus":1,"width":1,"height":1}},"network":"user","max_desktops":8,"entitled_groups":["everyone"]}}"#)),
        (5, r#"{"name":"ada","password":"\u0000\ud834\udd1e","role":"user","groups":["a"]}"#.into()),
        (6, r#"{"pool":"lab","wait_ms":60000}"#.into()),
        (7, ID.into()),
        (7, DIGEST.into()),
        (7, "{01890a5dac96774bbcceb302099a8057}".into()),
    ]
    .into_iter()
    .map(|(which, text)| with(&[which], text.as_bytes()))
    .collect()
}

fn recipes() -> Vec<Vec<u8>> {
    let smallest =
        "name = \"s\"\nsuite = \"bookworm\"\ndisk_size = \"4 GiB\"\npackages = [\"linux-image-amd64\"]\n";
    [
        "",
        "version = \"1\"\nhostname = \"h\"\nguest_agent = true\nenable = [\"ssh.service\"]\nmask = [\"a@b.timer\"]\n",
        "[user]\nname = \"user\"\nfull_name = \"U\"\ngroups = [\"sudo\"]\n",
        "[[file]]\npath = \"/etc/x\"\ncontent = '''\na\n'''\nmode = \"0644\"\n",
        "[[file]]\npath = \"/../x\"\nsource = \"../y\"\n",
        "exclude_paths = [\"/usr/share/doc/*\"]\nkernel_arguments = \"quiet\"\ncustomise = \"true\"\n",
        "overlays = [\"common/root\", \"/etc\"]\n",
        "x = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        "x = 1e999\ny = 0x_ff\nz = 1979-05-27T07:32:00Z\n",
    ]
    .into_iter()
    .map(|rest| [smallest, rest].concat().into_bytes())
    .collect()
}
