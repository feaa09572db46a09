use super::*;

const DIR: &str = "/x/.waypost-staged/";

fn faults(said: &str) -> Vec<(String, usize, String)> {
    let found = said.lines().filter_map(|line| fault(line, DIR));
    found.map(|Fault { path, line, text }| (path, line, text)).collect()
}

fn is(path: &str, line: usize, text: &str) -> (String, usize, String) {
    (path.to_owned(), line, text.to_owned())
}

#[test]
fn haproxy_names_lines() {
    let said = "[NOTICE]   (7) : haproxy version is 2.6.12-1+deb12u4\n\
        [WARNING]  (7) : config : parsing [/x/.waypost-staged/haproxy.cfg:3] : 'option httplog' is not usable\n\
        [ALERT]    (7) : config : parsing [/x/.waypost-staged/haproxy.cfg:37] : unknown keyword 'garbage'\n\
        [ALERT]    (7) : config : Parsing [/x/.waypost-staged/a/b.cfg:16]: backend 'b' has the same name as \
        backend 'b' declared at /x/.waypost-staged/haproxy.cfg:13.\n\
        [ALERT]    (7) : config : [/x/.waypost-staged/haproxy.cfg:17] : 'server b/a' : invalid port '99999'\n\
        [ALERT]    (7) : config : Error(s) found in configuration file : /x/.waypost-staged/haproxy.cfg\n";
    let clash = "backend 'b' has the same name as backend 'b' declared at haproxy.cfg:13.";
    assert_eq!(
        faults(said),
        [
            is("haproxy.cfg", 37, "unknown keyword 'garbage'"),
            is("a/b.cfg", 16, clash),
            is("haproxy.cfg", 17, "'server b/a' : invalid port '99999'")
        ]
    );
}

#[test]
fn nginx_names_lines() {
    let said = "2026/11/22 16:39:00 [emerg] 25431#25431: unknown directive \"fooo\" in \
        /x/.waypost-staged/nginx.conf:2\nnginx: configuration file /x/.waypost-staged/nginx.conf test failed\n";
    assert_eq!(faults(said), [is("nginx.conf", 2, "unknown directive \"fooo\"")]);
    let said = "nginx: [emerg] host not found in upstream \"a:1\" in /x/.waypost-staged/sites/a.conf:12\n";
    assert_eq!(faults(said), [is("sites/a.conf", 12, "host not found in upstream \"a:1\"")]);
    let said = "nginx: [warn] conflicting server name \"a\" on 0.0.0.0:80, ignored in /x/.waypost-staged/http.conf:3\n\
        nginx: [emerg] upstream \"a\" may not have port 80 in /x/.waypost-staged/http.conf:7 in \
        /x/.waypost-staged/http.conf:2\n";
    assert_eq!(faults(said), [is("http.conf", 2, "upstream \"a\" may not have port 80 in http.conf:7")]);
    let said = "nginx: [emerg] open() \"/x/.waypost-staged/y.conf\" failed (2: No such file or directory) in \
        /x/.waypost-staged/nginx.conf:31\n";
    let text = "open() \"y.conf\" failed (2: No such file or directory)";
    assert_eq!(faults(said), [is("nginx.conf", 31, text)]);
}

#[test]
fn what_is_no_place_is_not_taken_for_one() {
    assert_eq!(faults("[ALERT] /x/.waypost-staged/haproxy.cfg: no line"), []);
    assert_eq!(faults("[ALERT] /x/.waypost-staged/haproxy.cfg:0 : zero"), []);
    assert_eq!(faults("[ALERT] /elsewhere/haproxy.cfg:5 : not ours"), []);
    assert_eq!(faults("[ALERT] /x/.waypost-staged/:5 : no file"), []);
}

fn found(text: &str) -> Vec<String> {
    binds(text).into_iter().map(|(line, address, udp)| format!("{line} {address} {udp}")).collect()
}

#[test]
fn binds_of_haproxy_are_found() {
    let text =
        "listen a\n    bind *:8000\n  bind 127.0.0.1:5432,[::1]:5432 v4v6\nbind /run/x.sock\nbind :80-90\n# bind *:1\n";
    assert_eq!(found(text), ["2 0.0.0.0:8000 false", "3 127.0.0.1:5432 false", "3 [::1]:5432 false"]);
    assert_eq!(found("listen 10.0.0.1:80\n    mode tcp\n"), [""; 0], "a section of HAProxy's with such a name");
}

#[test]
fn listeners_of_streams_are_found() {
    let text = "server {\n    listen *:5432;\n    listen [::1]:53 udp reuseport;\n    listen unix:/x;\n}\n";
    assert_eq!(found(text), ["2 0.0.0.0:5432 false", "3 [::1]:53 true"]);
    assert_eq!(found("server {\n    listen *:80;\n    server_name a.example;\n}\n"), [""; 0]);
    assert_eq!(found("server {\n    listen *:80 default_server;\n    return 503;\n}\n"), [""; 0]);
}

#[test]
fn programs_are_known_by_their_names() {
    assert_eq!(Program::of_command("/usr/sbin/nginx"), Some(Program::Nginx));
    assert_eq!(Program::of_command("haproxy"), Some(Program::Haproxy));
    assert_eq!(["sh", "", "/"].map(Program::of_command), [None; 3]);
    assert_eq!(Program::of_process("nginx: master"), Some(Program::Nginx));
    assert_eq!(Program::of_process("docker-init"), None);
}
