use super::*;
use crate::model::{Attributes, Health, LeaseKind, Port, Readiness, Transport};

fn node() -> Arc<Node> {
    Arc::new(Node { name: "web-1".into(), address: "10.0.0.5".into(), attributes: Attributes::new() })
}

fn whoami() -> Arc<Container> {
    let port = |address: &str| Port {
        container_port: 8000,
        transport: Transport::Tcp,
        host_address: Some(address.into()),
        host_port: Some(49153),
    };
    Arc::new(Container {
        id: "736ab83847bb12dddd8b09969433f3a02d64d5b0be48f7a5c59a594e3a6a3541".into(),
        name: "whoami".into(),
        hostname: "736ab83847bb".into(),
        image: "jwilder/whoami:latest".into(),
        network_mode: "bridge".into(),
        labels: Attributes::new(),
        environment: [("SECRET".to_owned(), "s3cret".to_owned())].into(),
        ports: vec![port("0.0.0.0"), port("::")],
        attachments: Vec::new(),
        health: Health::Unchecked,
        started_at: 0,
        paused: false,
        stopping: false,
    })
}

async fn load(name: &str) -> Plugin {
    let host = Box::leak(Box::new(Host::new(Limits::default(), None).unwrap()));
    host.load(Source::Shipped(name), &serde_json::json!({})).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_goes_down_the_whole_line() {
    let (node, container) = (node(), whoami());
    let role = load("image").await.group(&node, &container).await.unwrap();
    let [instance] = &role.provides[..] else { panic!("{role:?}") };
    assert_eq!((instance.service.as_str(), instance.id.as_str()), ("whoami", "736ab83847bb"));
    assert_eq!((instance.address.as_str(), instance.port), ("10.0.0.5", 49153));

    let instance = Arc::new(instance.clone());
    let backends = load("backends").await;
    assert_eq!(backends.prefixes().await.unwrap(), ["/backends/"]);
    let mut entries = backends.encode(&node, &instance).await.unwrap();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let shown: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.value.as_str(), e.lease)).collect();
    let expected = [
        ("/backends/whoami/736ab83847bb", "10.0.0.5:49153", LeaseKind::Host),
        ("/backends/whoami/port", "8000", LeaseKind::Shared),
    ];
    assert_eq!(shown, expected);

    let listed = entries.iter().map(|e| (Arc::from(e.key.as_str()), Arc::from(e.value.as_str()))).collect();
    let decoded = backends.decode(vec![listed]).await.remove(0).unwrap();
    assert_eq!(decoded[0].attributes.get("listen-port").map(String::as_str), Some("8000"));

    let service = Service { name: "whoami".into(), instances: vec![Arc::new(decoded[0].clone())], denied: Vec::new() };
    let haproxy = load("haproxy").await;
    let fragments = haproxy.render(&node, vec![Arc::new(service)]).await.remove(0).unwrap();
    let text: String = fragments.fragments.iter().map(|fragment| fragment.text.as_str()).collect();
    assert!(text.contains("server 736ab83847bb 10.0.0.5:49153 check inter 2s rise 3 fall 2"), "{text}");
    assert!(!haproxy.base(&node).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_layout_keeps_everything() {
    let json = load("json").await;
    let instance = Instance {
        service: "web".into(),
        id: "a-80".into(),
        address: "fd00::1".into(),
        port: 80,
        transport: Transport::Udp,
        readiness: Readiness::Draining,
        weight: Some(7),
        attributes: [("domain".to_owned(), "ä.example \"quoted\"".to_owned())].into(),
    };
    let entries = json.encode(&node(), &Arc::new(instance.clone())).await.unwrap();
    assert_eq!(entries[0].key, "/waypost/services/web/a-80");
    let listed = entries.iter().map(|e| (Arc::from(e.key.as_str()), Arc::from(e.value.as_str()))).collect();
    assert_eq!(json.decode(vec![listed]).await, [Ok(vec![instance])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_loaded_is_said_in_words() {
    let host = Host::new(Limits::default(), None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let none = serde_json::json!({});
    let cases = [
        (file("text.wasm", b"hello"), "it is not WebAssembly: expected a component, found 5 bytes"),
        (file("core.wasm", b"\0asm\x01\0\0\0"), "it is a core WebAssembly module, expected a component"),
        (file("torn.wasm", b"\0asm\x0d\0\x01\0torn"), "it is not a valid WebAssembly component"),
        (file("empty.wasm", b"\0asm\x0d\0\x01\0"), "missing export: expected one of waypost:plugin/grouping"),
        (directory.path().join("gone.wasm"), "cannot be read"),
    ];
    for (path, expected) in cases {
        let error = format!("{:#}", host.load(Source::File(&path, None), &none).await.err().unwrap());
        assert!(error.contains(expected), "{}\n  found    {error}\n  expected {expected}", path.display());
    }
    let error = format!("{:#}", host.load(Source::Shipped("nope"), &none).await.err().unwrap());
    assert!(error.contains("there is no shipped plugin \"nope\", expected one of labels, announce"), "{error}");
    let wrong = serde_json::json!({ "no-such-setting": 1 });
    let error = format!("{:#}", host.load(Source::Shipped("image"), &wrong).await.err().unwrap());
    assert!(error.contains("it refuses its settings") && error.contains("no-such-setting"), "{error}");
    let path = file("sum.wasm", b"\0asm\x0d\0\x01\0");
    let error = format!("{:#}", host.load(Source::File(&path, Some("00")), &none).await.err().unwrap());
    assert!(error.contains("found sha256") && error.contains("expected 00"), "{error}");
}

/// A component that exports these interfaces, every function of them without arguments and result.
fn hollow(imports: &str, interfaces: &[(&str, &[&str])]) -> Vec<u8> {
    let mut text = format!(
        "(component {imports} (core module $m (func (export \"f\"))) (core instance $i (instantiate $m)) \
         (func $f (canon lift (core func $i \"f\")))"
    );
    for (name, functions) in interfaces {
        let exports: Vec<_> = functions.iter().map(|function| format!("(export \"{function}\" (func $f))")).collect();
        let exports = exports.concat();
        text =
            format!("{text} (instance ${name} {exports}) (export \"waypost:plugin/{name}@0.1.0\" (instance ${name}))");
    }
    wat::parse_str(text + ")").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_of_another_interface_is_said_in_words() {
    let host = Host::new(Limits::default(), None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let lifecycle = ("lifecycle", &["describe", "configure"][..]);
    let vault = "(import \"team:secrets/vault@1.0.0\" (instance (export \"open\" (func))))";
    let unknown = "(import \"waypost:plugin/clock@0.1.0\" (instance (export \"now\" (func))))";
    let cases = [
        (hollow(vault, &[lifecycle]), "it imports team:secrets/vault@1.0.0, which plugins are not given"),
        (hollow(unknown, &[lifecycle]), "it imports what this version of Waypost does not have"),
        (hollow("", &[lifecycle]), "missing export: expected one of waypost:plugin/grouping"),
        (hollow("", &[("grouping", &["group"])]), "missing export: waypost:plugin/lifecycle@0.1.0"),
        (hollow("", &[lifecycle, ("grouping", &["groop"])]), "missing export: "),
        (hollow("", &[lifecycle, ("grouping", &["group"])]), "type mismatch: its functions are not those of"),
    ];
    for (bytes, expected) in cases {
        let path = directory.path().join("other.wasm");
        std::fs::write(&path, bytes).unwrap();
        let error = host.load(Source::File(&path, None), &serde_json::json!({})).await.err().unwrap();
        let error = format!("{error:#}");
        assert!(
            error.starts_with("plugin other: ") && error.contains(expected),
            "\n  found    {error}\n  expected {expected}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compiled_code_is_kept_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("plugins");
    for _ in 0..2 {
        let host = Host::new(Limits::default(), Some(cache.clone())).unwrap();
        host.load(Source::Shipped("image"), &serde_json::json!({})).await.unwrap();
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    }
    // A torn file is compiled anew, not trusted.
    let kept = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&kept, b"torn").unwrap();
    let host = Host::new(Limits::default(), Some(cache.clone())).unwrap();
    host.load(Source::Shipped("image"), &serde_json::json!({})).await.unwrap();
    assert!(std::fs::metadata(&kept).unwrap().len() > 1000);
    // A directory that others can write is not used at all.
    std::fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::write(&kept, b"planted").unwrap();
    let host = Host::new(Limits::default(), Some(cache)).unwrap();
    host.load(Source::Shipped("image"), &serde_json::json!({})).await.unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), b"planted");
}
