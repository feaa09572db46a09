//! The stats socket of the simulated `HAProxy`: one command, one answer in its words.

use waypost::simulated::{Fault, has};

use super::process::{Process, Section, Server};

const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
    srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
    bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr \
    srv_agent_port\n";
const CONNECTIONS: &str = "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb \
    idle_lim idle_cur idle_per_thr[2]\n";
const NO_BACKEND: &str = "Can't find backend.\n";
const NO_SERVER: &str = "No such server.\n";
const NO_MAP: &str = "Unknown map identifier. Please use #<id> or <file>.\n";

/// Carries out a command and answers it; what is wrong with the command itself goes to `faults`.
pub(crate) fn answer(process: &mut Process, version: &str, command: &str, faults: &mut Vec<String>) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    match words[..] {
        ["show", "version"] => format!("{version}\n"),
        ["show", "info"] => format!("Name: HAProxy\nVersion: {version}\nPid: {}\n", process.pid),
        ["show", "servers", "state", section] => state(process, section),
        ["show", "servers", "conn", section] => connections(process, section),
        ["show", "stat", section, ..] => traffic(process, section),
        ["get", "map", _, key] => route(process, key),
        [verb, "map", path, ref rest @ ..] => map(process, verb, path, rest, faults),
        ["add", "server", full, address, ref words @ ..] => add(process, full, address, words, faults),
        ["del", "server", full] => delete(process, full),
        ["enable" | "set", ..] => on_server(process, &words, faults),
        ["add", "backend", name, ..] => {
            let section = Section { kind: "backend".to_owned(), ..Section::default() };
            process.sections.entry(name.to_owned()).or_insert(section);
            "New backend registered.\n".to_owned()
        }
        ["publish", "backend", _] => "\n".to_owned(),
        _ => {
            faults.push(format!("HAProxy does not know {command:?}"));
            "Unknown command\n".to_owned()
        }
    }
}

fn state(process: &Process, section: &str) -> String {
    let Some(found) = process.sections.get(section) else { return NO_BACKEND.to_owned() };
    let row = |(id, server): (&String, &Server)| {
        let Server { address, port, admin, weight, check, .. } = server;
        format!("6 {section} 1 {id} {address} 2 {admin} {weight} 1 1 8 2 0 {check} 0 0 0 - {port} - 0 0 - - 0\n")
    };
    STATE.to_owned() + &found.servers.iter().map(row).collect::<String>()
}

fn connections(process: &Process, section: &str) -> String {
    let Some(found) = process.sections.get(section) else { return NO_BACKEND.to_owned() };
    let row = |(id, server): (&String, &Server)| {
        let used = u8::from(server.is_busy());
        format!("{section}/{id} 6/4 {} {} - 5000 {used} {used} 1 0 0 -1 0 0 0\n", server.address, server.port)
    };
    CONNECTIONS.to_owned() + &found.servers.iter().map(row).collect::<String>()
}

fn traffic(process: &Process, section: &str) -> String {
    let Some(found) = process.sections.get(section) else { return "No such proxy.\n".to_owned() };
    let mut text = "# pxname,svname,qcur,scur,status,cookie,mode,\n".to_owned();
    if !found.binds.is_empty() {
        text += &format!("{section},FRONTEND,,0,OPEN,,http,\n");
    }
    let used = u8::from(found.is_open() && !has(Fault::PlacesAtOnce));
    text + &format!("{section},BACKEND,0,{used},UP,,http,\n")
}

/// The longest key that the one asked for begins with.
fn route(process: &Process, key: &str) -> String {
    let begins = process.routes.iter().filter(|(known, _)| key.starts_with(known.as_str()));
    let longest = begins.fold(None, |best: Option<&(String, String)>, one| match best {
        Some(best) if best.0.len() >= one.0.len() => Some(best),
        _ => Some(one),
    });
    match longest {
        None => "type=beg, case=sensitive, found=no\n".to_owned(),
        Some((key, value)) => {
            format!("type=beg, case=sensitive, found=yes, idx=tree, key=\"{key}\", value=\"{value}\", type=\"str\"\n")
        }
    }
}

fn map(process: &mut Process, verb: &str, path: &str, rest: &[&str], faults: &mut Vec<String>) -> String {
    let is_routes = path == "routes.map";
    if let ("add", false, [name, standby]) = (verb, is_routes, rest)
        && process.sections.get(*standby).is_some_and(Section::is_open)
    {
        faults.push(format!("{standby} is given to {name} while a request is in it"));
    }
    let known = if is_routes { Some(&mut process.routes) } else { process.standbys.as_mut() };
    let Some(entries) = known else { return NO_MAP.to_owned() };
    match (verb, rest) {
        ("show", []) => entries.iter().map(|(key, value)| format!("0x1 {key} {value}\n")).collect(),
        ("add", [key, value]) => {
            if let Some((_, other)) = entries.iter().find(|(known, _)| known == key) {
                faults.push(format!("{key} is given to {value} in {path}, but {other} has it"));
            }
            entries.push(((*key).to_owned(), (*value).to_owned()));
            "\n".to_owned()
        }
        ("set", [key, value]) => {
            entries.iter_mut().filter(|(known, _)| known == key).for_each(|(_, old)| (*value).clone_into(old));
            "\n".to_owned()
        }
        ("del", [key]) => {
            entries.retain(|(known, _)| known != key);
            "\n".to_owned()
        }
        _ => {
            faults.push(format!("HAProxy does not know {verb} map {path} {rest:?}"));
            "Unknown command\n".to_owned()
        }
    }
}

fn server<'a>(process: &'a mut Process, full: &str) -> Option<&'a mut Server> {
    let (section, id) = full.split_once('/')?;
    process.sections.get_mut(section)?.servers.get_mut(id)
}

fn add(process: &mut Process, full: &str, address: &str, words: &[&str], faults: &mut Vec<String>) -> String {
    let Some((section, id)) = full.split_once('/') else { return NO_SERVER.to_owned() };
    let Some(found) = process.sections.get_mut(section) else { return NO_BACKEND.to_owned() };
    if found.servers.contains_key(id) {
        return "Already exists a server with the same name in backend.\n".to_owned();
    }
    match Server::new(address, words, true) {
        Some((server, _)) => _ = found.servers.insert(id.to_owned(), server),
        None => faults.push(format!("{address} is no address")),
    }
    "New server registered.\n".to_owned()
}

fn delete(process: &mut Process, full: &str) -> String {
    let Some(found) = server(process, full) else { return NO_SERVER.to_owned() };
    if found.admin & 1 == 0 {
        return "Only servers in maintenance mode can be deleted.\n".to_owned();
    }
    if found.is_busy() {
        return "Server still has connections attached to it, cannot remove it.\n".to_owned();
    }
    if let Some((section, id)) = full.split_once('/')
        && let Some(section) = process.sections.get_mut(section)
    {
        section.servers.remove(id);
    }
    "Server deleted.\n".to_owned()
}

fn on_server(process: &mut Process, words: &[&str], faults: &mut Vec<String>) -> String {
    let Some(found) = words.get(2).and_then(|full| server(process, full)) else { return NO_SERVER.to_owned() };
    match words {
        ["enable", "health", _] => found.check |= 4,
        ["enable", "server", _] => found.admin &= !1,
        ["set", "server", _, "state", "maint"] => found.admin = 1,
        ["set", "server", _, "state", "ready"] => found.admin = 0,
        ["set", "server", _, "weight", weight] => found.weight = weight.parse().unwrap_or(found.weight),
        ["set", "server", _, "addr", address, "port", port] => {
            (*address).clone_into(&mut found.address);
            found.port = port.parse().unwrap_or(found.port);
        }
        _ => faults.push(format!("HAProxy does not know {words:?}")),
    }
    "\n".to_owned()
}
