//! The parts of a configuration file that scenarios have in common.

use crate::agent::proxy_dir;
use crate::engine::Engine;
use crate::etcd::Etcd;
use crate::host::Host;

/// The table `[agent]` for an agent on `host`; further keys of it may follow.
pub fn agent_section(host: &Host) -> String {
    let (name, address, state) = (host.name(), host.address(), host.dir().join("state"));
    format!("[agent]\nnode = \"{name}\"\nadvertise = \"{address}\"\nstate-dir = \"{}\"\n", state.display())
}

/// The table `[docker]` for `engine`; further keys of it may follow.
pub fn docker_section(engine: &Engine<'_>) -> String {
    format!("[docker]\nendpoint = \"{}\"\n", engine.endpoint())
}

/// The table `[registry]` for `etcd`; further keys of it may follow.
pub fn etcd_section(etcd: &Etcd<'_>, ttl: &str) -> String {
    format!("[registry]\nkind = \"etcd\"\nendpoints = [\"{}\"]\nttl = \"{ttl}\"\n", etcd.url())
}

/// An `[[output]]` of the plugin `haproxy`, checked and supervised by the agent; its settings, or other keys, may follow.
pub fn haproxy_section(host: &Host) -> String {
    format!(
        "[[output]]\nplugin = \"haproxy\"\ndirectory = \"{}\"\n\
         check = [\"haproxy\", \"-c\", \"-f\", \"{{dir}}/haproxy.cfg\"]\n\
         reload = {{ supervise = [\"haproxy\", \"-Ws\", \"-f\", \"{{dir}}/haproxy.cfg\"], signal = \"USR2\" }}\n",
        proxy_dir(host).display()
    )
}

/// A setting of [`haproxy_section`]: `HAProxy` tells of every request that did not go well, in the agent's log.
pub(crate) const TELLS: &str = "global-lines = [\"log stdout format raw local0\"], \
                                defaults-lines = [\"option httplog\", \"option dontlog-normal\"]";

/// An `[[output]]` of the plugin `nginx`, checked and supervised by the agent, with streams; further keys of its settings may
/// follow.
pub fn nginx_section(host: &Host) -> String {
    let command = r#""nginx", "-e", "stderr", "-p", "{dir}", "-c", "{dir}/nginx.conf""#;
    format!(
        "[[output]]\nplugin = \"nginx\"\ndirectory = \"{}\"\ncheck = [{command}, \"-t\"]\n\
         reload = {{ supervise = [{command}, \"-g\", \"daemon off;\"] }}\n\
         [output.settings]\nstream = \"/usr/lib/nginx/modules/ngx_stream_module.so\"\n",
        proxy_dir(host).display()
    )
}
