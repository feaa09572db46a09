//! An output plugin that writes one file for each service, where the service's name says: `up-…` above its
//! directory, `root-…` at an absolute path, `flood-…` far too much, `trap-…` never.

wit_bindgen::generate!({ world: "output-plugin", path: "../../../wit" });

use exports::waypost::plugin::lifecycle::{Description, Guest as Lifecycle};
use exports::waypost::plugin::output::{Fragment, Guest as Output, Node, PluginError, Rendering, Service};

struct Escape;

export!(Escape);

impl Lifecycle for Escape {
    fn describe() -> Description {
        Description {
            name: "escape".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Writes where it must not.".into(),
            settings_schema: String::new(),
            environment: Vec::new(),
        }
    }

    fn configure(_settings: String) -> Result<(), PluginError> {
        Ok(())
    }
}

impl Output for Escape {
    fn base(_node: Node) -> Result<Vec<Fragment>, PluginError> {
        Ok(vec![fragment("base.txt", "base\n")])
    }

    fn render(_node: Node, service: Service) -> Result<Rendering, PluginError> {
        let ids: String = service.instances.iter().map(|instance| format!("{}\n", instance.id)).collect();
        let name = service.name;
        let fragments = vec![match name.split('-').next().unwrap_or_default() {
            "up" => fragment("../escaped.txt", &ids),
            "deep" => fragment("a/../../escaped.txt", &ids),
            "root" => fragment("/tmp/waypost-escaped.txt", &ids),
            "hidden" => fragment("a\0b", &ids),
            "flood" => fragment("flood.txt", &"x".repeat(40 << 20)),
            "trap" => panic!("cannot render {name}"),
            _ => fragment(&format!("{name}.txt"), &ids),
        }];
        Ok(Rendering { fragments, claims: Vec::new() })
    }
}

fn fragment(path: &str, text: &str) -> Fragment {
    Fragment { path: path.into(), key: "0".into(), text: text.into() }
}
