//! The way out as a component: one macro for each kind of plugin. They find `wit/` from `plugins/<name>/`.

/// Exports `world` for the [`Plugin`](crate::Plugin) type `$plugin`; the items implement what the world adds.
#[doc(hidden)]
#[macro_export]
macro_rules! component {
    ($world:literal, $plugin:ty, $($items:tt)*) => {
        #[cfg(target_arch = "wasm32")]
        mod component {
            // Generated code follows neither our lints nor our documentation rule.
            #![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::pedantic)]

            use super::*;
            use exports::waypost::plugin::lifecycle;

            $crate::wit_bindgen::generate!({
                world: $world,
                path: "../../wit",
                runtime_path: "waypost_plugin_sdk::wit_bindgen::rt",
                with: {
                    "waypost:plugin/types@0.1.0": waypost_plugin_sdk::types,
                    "waypost:plugin/logging@0.1.0": waypost_plugin_sdk::logging,
                },
            });

            type Settings = <$plugin as $crate::Plugin>::Settings;
            static SETTINGS: $crate::settings::Cell<Settings> = $crate::settings::Cell::new();

            struct Component;

            impl lifecycle::Guest for Component {
                fn describe() -> lifecycle::Description {
                    lifecycle::Description {
                        name: <$plugin as $crate::Plugin>::NAME.into(),
                        version: env!("CARGO_PKG_VERSION").into(),
                        summary: <$plugin as $crate::Plugin>::SUMMARY.into(),
                        settings_schema: <$plugin as $crate::Plugin>::SCHEMA.into(),
                        environment: <$plugin as $crate::Plugin>::ENVIRONMENT.iter().map(|&name| name.into()).collect(),
                    }
                }

                fn configure(settings: String) -> Result<(), $crate::PluginError> {
                    SETTINGS.configure(&settings)
                }
            }

            $($items)*

            export!(Component);
        }
    };
}

/// Makes a grouping plugin of `fn(&Settings, &Node, &Container) -> Result<Role, PluginError>`.
#[macro_export]
macro_rules! grouping {
    ($plugin:ty, $group:path) => {
        $crate::component! { "grouping-plugin", $plugin,
            use exports::waypost::plugin::grouping;

            impl grouping::Guest for Component {
                fn group(node: $crate::Node, container: $crate::Container) -> Result<grouping::Role, $crate::PluginError> {
                    let role: $crate::Role = $group(SETTINGS.get()?, &node, &container)?;
                    Ok(grouping::Role { provides: role.provides, consumes: role.consumes })
                }
            }
        }
    };
}

/// Makes a layout plugin of `fn(&Settings) -> Vec<String>`, `fn(&Settings, &Node, &Instance) ->
/// Result<Vec<Registration>, PluginError>` and `fn(&Settings, &[Entry]) -> Result<Vec<Instance>, PluginError>`.
#[macro_export]
macro_rules! layout {
    ($plugin:ty, $prefixes:path, $encode:path, $decode:path) => {
        $crate::component! { "layout-plugin", $plugin,
            use exports::waypost::plugin::layout;

            impl layout::Guest for Component {
                fn prefixes() -> Vec<String> {
                    SETTINGS.get().map($prefixes).unwrap_or_default()
                }

                fn encode(
                    node: $crate::Node,
                    instance: $crate::Instance,
                ) -> Result<Vec<layout::Registration>, $crate::PluginError> {
                    let registrations: Vec<$crate::Registration> = $encode(SETTINGS.get()?, &node, &instance)?;
                    let lease = |lease| match lease {
                        $crate::LeaseKind::Host => layout::LeaseKind::Host,
                        $crate::LeaseKind::Shared => layout::LeaseKind::Shared,
                    };
                    let converted = |one: $crate::Registration| layout::Registration {
                        key: one.key,
                        value: one.value,
                        lease: lease(one.lease),
                    };
                    Ok(registrations.into_iter().map(converted).collect())
                }

                fn decode(entries: Vec<layout::Entry>) -> Result<Vec<$crate::Instance>, $crate::PluginError> {
                    let entries = entries.into_iter().map(|entry| $crate::Entry { key: entry.key, value: entry.value });
                    let entries: Vec<$crate::Entry> = entries.collect();
                    $decode(SETTINGS.get()?, &entries)
                }
            }
        }
    };
}

/// Makes an output plugin of `fn(&Settings, &Node) -> Result<Vec<Fragment>, PluginError>` and
/// `fn(&Settings, &Node, &Service) -> Result<Rendering, PluginError>`.
#[macro_export]
macro_rules! output {
    ($plugin:ty, $base:path, $render:path) => {
        $crate::component! { "output-plugin", $plugin, $crate::output_guest! { $base, $render } }
    };
}

/// Makes an output plugin that also takes changes over a stats socket: as [`output!`], then
/// `fn(&[String]) -> Option<String>` for the process,
/// `fn(&Settings, &[Change]) -> Result<Vec<String>, PluginError>` for the queries and
/// `fn(&Settings, &Node, &[Change], &[String]) -> Result<LivePlan, PluginError>` for the plan.
#[macro_export]
macro_rules! live_output {
    ($plugin:ty, $base:path, $render:path, $process:path, $queries:path, $plan:path) => {
        $crate::component! { "live-output-plugin", $plugin,
            $crate::output_guest! { $base, $render }

            use exports::waypost::plugin::live;

            fn changes(changes: Vec<live::Change>) -> Vec<$crate::Change> {
                changes.into_iter().map(|c| $crate::Change { before: c.before, after: c.after }).collect()
            }

            impl live::Guest for Component {
                fn process(answers: Vec<String>) -> Option<String> {
                    $process(&answers)
                }

                fn queries(wanted: Vec<live::Change>) -> Result<Vec<String>, $crate::PluginError> {
                    $queries(SETTINGS.get()?, &changes(wanted))
                }

                fn plan(
                    node: $crate::Node,
                    wanted: Vec<live::Change>,
                    answers: Vec<String>,
                ) -> Result<live::LivePlan, $crate::PluginError> {
                    Ok(match $plan(SETTINGS.get()?, &node, &changes(wanted), &answers)? {
                        $crate::LivePlan::Commands(commands) => live::LivePlan::Commands(commands),
                        $crate::LivePlan::CommandsAndReload(commands) => live::LivePlan::CommandsAndReload(commands),
                        $crate::LivePlan::Reload => live::LivePlan::Reload,
                    })
                }
            }
        }
    };
}

/// The fragment that both kinds of output plugins share.
#[doc(hidden)]
#[macro_export]
macro_rules! output_guest {
    ($base:path, $render:path) => {
        use exports::waypost::plugin::output;

        fn fragments(fragments: Vec<$crate::Fragment>) -> Vec<output::Fragment> {
            fragments.into_iter().map(|p| output::Fragment { path: p.path, key: p.key, text: p.text }).collect()
        }

        impl output::Guest for Component {
            fn base(node: $crate::Node) -> Result<Vec<output::Fragment>, $crate::PluginError> {
                $base(SETTINGS.get()?, &node).map(fragments)
            }

            fn render(node: $crate::Node, service: $crate::Service) -> Result<output::Rendering, $crate::PluginError> {
                let rendering: $crate::Rendering = $render(SETTINGS.get()?, &node, &service)?;
                Ok(output::Rendering { fragments: fragments(rendering.fragments), claims: rendering.claims })
            }
        }
    };
}
