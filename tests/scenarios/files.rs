//! Files on disks that fill, behind mounts, beside files of others: the old ones stay whole until the new ones are in place.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Container, Engine, Etcd, Host, Network, Section, agent_section, component, docker_section,
    etcd_section, eventually, haproxy_section,
};
use serde_json::json;

fn following(engine: &Engine<'_>, output: &str) -> String {
    let host = engine.host();
    let grouping = "[[grouping]]\nplugin = \"labels\"\n";
    [&agent_section(host), &docker_section(engine), grouping, output].concat()
}

fn labelled<'a>(engine: &'a Engine<'_>, service: &str) -> Container<'a> {
    let labels = [format!("waypost.service={service}"), format!("waypost.domain={service}.example")];
    engine.run(&["--publish", "8000", "--label", &labels[0], "--label", &labels[1], "whoami"])
}

/// Waits until the container answers for its service's domain.
#[track_caller]
fn routed(host: &Host, service: &str, container: &Container<'_>) {
    let name = format!("{service}.example");
    eventually(CHANGE_TIMEOUT, &format!("{name} is routed"), || {
        let seen = host.connect(80)?.get_of(&name, "/")?.good()?;
        ensure!(seen == container.greeting(), "{seen}");
        Ok(())
    });
}

#[test]
fn a_full_disk_keeps_the_old_files_whole_until_there_is_room() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let directory = host.dir().join("proxy");
    std::fs::create_dir_all(&directory).unwrap();
    let directory = directory.to_str().unwrap();
    host.run("mount", &["-t", "tmpfs", "-o", "size=256k", "none", directory]);
    let agent = Agent::start(&host, "agent", &following(&engine, &haproxy_section(&host)));
    let web = labelled(&engine, "web");
    routed(&host, "web", &web);
    let files = || host.run("sh", &["-c", &format!("cat {directory}/haproxy.cfg {directory}/routes.map")]);
    let before = files();

    host.run("sh", &["-c", &format!("cat /dev/zero > {directory}/filler; true")]);
    let api = labelled(&engine, "api");
    let line = agent.logs(&["WARN", "the old files stay", "free space on its file system"]);
    assert!(line.contains(directory), "{line}");
    assert_eq!(files(), before, "a file is torn");
    routed(&host, "web", &web);
    let report = harness::waypost(&host, &["catalog", "--config", host.dir().join("agent.toml").to_str().unwrap()]);
    let shown = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(shown.contains("free space"), "{shown}");

    host.run("rm", &[&format!("{directory}/filler")]);
    routed(&host, "api", &api);
    routed(&host, "web", &web);
    agent.logs(&["INFO", "problem resolved", "files"]);
    let listed = host.run("ls", &["-A", directory]);
    assert!(!listed.contains(".waypost-staged"), "{listed}");
}

#[test]
fn a_check_that_hangs_is_given_up_and_tried_again() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let (script, hang) = (host.dir().join("check"), host.dir().join("hang"));
    let body = format!("[ -e {} ] && sleep 600\nexec haproxy -c -f \"$1/haproxy.cfg\"\n", hang.display());
    std::fs::write(&script, body).unwrap();
    let output = Section::haproxy(&host).with("check", json!(["sh", script, "{dir}"])).with("timeout", "2s");
    let agent = Agent::start(&host, "agent", &following(&engine, &output.to_string()));
    let web = labelled(&engine, "web");
    routed(&host, "web", &web);
    let before = agent.proxy_file("haproxy.cfg");

    std::fs::write(&hang, "").unwrap();
    let api = labelled(&engine, "api");
    agent.logs(&["WARN", "the old files stay", "did not end within 2s and was killed"]);
    assert_eq!(agent.proxy_file("haproxy.cfg"), before);
    routed(&host, "web", &web);
    std::fs::remove_file(&hang).unwrap();
    routed(&host, "api", &api);
}

#[test]
fn a_file_that_is_mounted_by_itself_is_written_in_place() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let (directory, source) = (host.dir().join("proxy"), host.dir().join("mounted.cfg"));
    std::fs::create_dir_all(&directory).unwrap();
    let target = directory.join("haproxy.cfg");
    for path in [&target, &source] {
        std::fs::write(path, "").unwrap();
    }
    let inode = std::fs::metadata(&source).unwrap().ino();
    host.run("mount", &["--bind", source.to_str().unwrap(), target.to_str().unwrap()]);
    let _agent = Agent::start(&host, "agent", &following(&engine, &haproxy_section(&host)));
    for service in ["web", "api"] {
        let container = labelled(&engine, service);
        routed(&host, service, &container);
        assert!(std::fs::read_to_string(&source).unwrap().contains(container.short_id()));
    }
    assert_eq!(std::fs::metadata(&source).unwrap().ino(), inode, "the file itself was exchanged");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "", "what is below the mount was written");
}

/// Renders one file for each service, `<service>.txt`, into the host's directory `files`; further keys of the output may
/// follow.
fn one_file_each(host: &Host, etcd: &Etcd<'_>) -> String {
    let directory = host.dir().join("files");
    let output = format!(
        "[[output]]\npath = \"{}\"\ndirectory = \"{}\"\nlinger = \"0s\"\n",
        component("escape").display(),
        directory.display()
    );
    [&agent_section(host), "register = false\n", &etcd_section(etcd, "15s"), &output].concat()
}

fn put(etcd: &Etcd<'_>, service: &str, id: &str) {
    let value = serde_json::json!({"service": service, "id": id, "address": "10.0.0.1", "port": 80,
        "transport": "tcp", "readiness": "ready", "attributes": {}});
    etcd.put(&format!("/waypost/services/{service}/{id}"), &value.to_string());
}

/// Waits until these are the files in the host's directory `files`, without hidden ones.
#[track_caller]
fn holds(host: &Host, expected: &[&str]) {
    eventually(CHANGE_TIMEOUT, &format!("the files are {expected:?}"), || {
        let listed = host.run(
            "sh",
            &["-c", &format!("cd {}/files && find . -type f -not -path '*/.*' | sort", host.dir().display())],
        );
        let found: Vec<_> = listed.lines().map(|line| line.trim_start_matches("./")).collect();
        ensure!(found == expected, "{found:?}");
        Ok(())
    });
}

#[test]
fn files_have_the_mode_and_owner_that_are_wanted_and_go_with_their_service() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("edge");
    let files = host.dir().join("files");
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("mine.txt"), "by hand\n").unwrap();
    std::fs::set_permissions(files.join("mine.txt"), std::fs::Permissions::from_mode(0o604)).unwrap();
    put(&etcd, "web", "a");
    put(&etcd, "team/api", "a");
    let text = format!("{}mode = \"0640\"\nowner = \"daemon:4321\"\n", one_file_each(&host, &etcd));
    let mut agent = Agent::start(&host, "agent", &text);
    holds(&host, &["base.txt", "mine.txt", "team/api.txt", "web.txt"]);
    // Debian's `daemon` is number 1.
    for file in ["base.txt", "team/api.txt", "web.txt"] {
        let found = std::fs::metadata(files.join(file)).unwrap();
        assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (0o640, 1, 4321), "{file}");
    }
    etcd.delete("/waypost/services/team/api/a");
    holds(&host, &["base.txt", "mine.txt", "web.txt"]);
    assert!(agent.stop().success(), "{}", agent.log());
    // What went while nobody looked goes as well; a foreign file never.
    etcd.delete("/waypost/services/web/a");
    agent.start_again();
    holds(&host, &["base.txt", "mine.txt"]);
    let mine = std::fs::metadata(files.join("mine.txt")).unwrap();
    assert_eq!((mine.mode() & 0o777, mine.uid()), (0o604, 0));
}

#[test]
fn a_file_that_cannot_be_beside_another_is_its_services_matter_alone() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("edge");
    std::fs::create_dir_all(host.dir().join("files/dir.txt/full")).unwrap();
    put(&etcd, "web", "a");
    let agent = Agent::start(&host, "agent", &one_file_each(&host, &etcd));
    holds(&host, &["base.txt", "web.txt"]);
    // Below the file of another service, of the base, and where the operator has a directory.
    let bad = ["web.txt/inner", "base.txt/inner", "dir"];
    for service in bad {
        put(&etcd, service, "a");
    }
    put(&etcd, "api", "a");
    holds(&host, &["api.txt", "base.txt", "web.txt"]);
    for service in bad {
        agent.logs(&["WARN", "it is left out", &format!("subject=\"{service}\"")]);
    }
    // The others go on, and each comes in when its place is free.
    put(&etcd, "api", "b");
    eventually(CHANGE_TIMEOUT, "another service follows", || {
        ensure!(std::fs::read_to_string(host.dir().join("files/api.txt"))? == "a\nb\n");
        Ok(())
    });
    etcd.delete("/waypost/services/web/a");
    holds(&host, &["api.txt", "base.txt", "web.txt/inner.txt"]);
    std::fs::remove_dir_all(host.dir().join("files/dir.txt")).unwrap();
    holds(&host, &["api.txt", "base.txt", "dir.txt", "web.txt/inner.txt"]);
}
