//! From how the operator writes a reload to how the proxy's stage does it.

use futures::FutureExt as _;

use crate::config::{self, Config, ContainerReload, Reload};
use crate::docker::{Control, ControlError};
use crate::proxy::{self, Call, Failure};

/// How the proxy of `output` reloads.
pub(super) fn method(config: &Config, output: &config::Output, reload: Reload) -> proxy::Reload {
    match reload {
        Reload::Command(command) => proxy::Reload::Command(command.0),
        Reload::PidFile(path, signal) => proxy::Reload::PidFile { path, signal },
        Reload::Supervise(command, signal) => proxy::Reload::Supervise { command: command.0, signal },
        Reload::MasterSocket(path) => proxy::Reload::MasterSocket(path),
        Reload::Container(container, how) => {
            let endpoint = config.docker.endpoint.0.clone();
            proxy::Reload::Call(in_container(Control { endpoint, container, limit: output.timeout.0 }, how))
        }
    }
}

fn in_container(control: Control, how: ContainerReload) -> Call {
    Call::new(move || {
        let (control, how) = (control.clone(), how.clone());
        let told = async move {
            match &how {
                ContainerReload::Signal(signal) => control.signal(&signal.to_string()).await,
                ContainerReload::Restart => control.restart().await,
            }
        };
        told.map(|result| result.map_err(failure)).boxed()
    })
}

fn failure(error: ControlError) -> Failure {
    match error {
        ControlError::Refused(text) => Failure { refused: true, error: anyhow::Error::msg(text) },
        ControlError::Other(error) => Failure { refused: false, error },
    }
}
