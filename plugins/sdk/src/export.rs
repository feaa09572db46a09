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
                    Ok(grouping::Role { offers: role.offers, wants: role.wants })
                }
            }
        }
    };
}

/// Makes a layout plugin of `fn(&Settings) -> Vec<String>`, `fn(&Settings, &Node, &Instance) -> Result<Vec<Entry>,
/// PluginError>` and `fn(&Settings, &[Entry]) -> Result<Vec<Instance>, PluginError>`.
#[macro_export]
macro_rules! layout {
    ($plugin:ty, $prefixes:path, $encode:path, $decode:path) => {
        $crate::component! { "layout-plugin", $plugin,
            use exports::waypost::plugin::layout;

            impl layout::Guest for Component {
                fn prefixes() -> Vec<String> {
                    SETTINGS.get().map($prefixes).unwrap_or_default()
                }

                fn encode(node: $crate::Node, instance: $crate::Instance) -> Result<Vec<layout::Entry>, $crate::PluginError> {
                    let entries: Vec<$crate::Entry> = $encode(SETTINGS.get()?, &node, &instance)?;
                    let holder = |held_by| match held_by {
                        $crate::Holder::Host => layout::Holder::Host,
                        $crate::Holder::All => layout::Holder::All,
                    };
                    let entry = |e: $crate::Entry| layout::Entry { key: e.key, value: e.value, held_by: holder(e.held_by) };
                    Ok(entries.into_iter().map(entry).collect())
                }

                fn decode(entries: Vec<layout::Entry>) -> Result<Vec<$crate::Instance>, $crate::PluginError> {
                    let entry = |e: layout::Entry| $crate::Entry { key: e.key, value: e.value, held_by: $crate::Holder::Host };
                    let entries: Vec<$crate::Entry> = entries.into_iter().map(entry).collect();
                    $decode(SETTINGS.get()?, &entries)
                }
            }
        }
    };
}

/// Makes an output plugin of `fn(&Settings, &Node) -> Result<Vec<Part>, PluginError>` and
/// `fn(&Settings, &Node, &Service) -> Result<Rendering, PluginError>`.
#[macro_export]
macro_rules! output {
    ($plugin:ty, $frame:path, $render:path) => {
        $crate::component! { "output-plugin", $plugin, $crate::output_guest! { $frame, $render } }
    };
}

/// Makes an output plugin that also takes changes over a control socket: as [`output!`], then
/// `fn(&[String]) -> Option<String>` for the process,
/// `fn(&Settings, &[Change]) -> Result<Vec<String>, PluginError>` for the questions and
/// `fn(&Settings, &Node, &[Change], &[String]) -> Result<Reaction, PluginError>` for the update.
#[macro_export]
macro_rules! live_output {
    ($plugin:ty, $frame:path, $render:path, $process:path, $questions:path, $update:path) => {
        $crate::component! { "live-output-plugin", $plugin,
            $crate::output_guest! { $frame, $render }

            use exports::waypost::plugin::live;

            fn changes(changes: Vec<live::Change>) -> Vec<$crate::Change> {
                changes.into_iter().map(|c| $crate::Change { before: c.before, after: c.after }).collect()
            }

            impl live::Guest for Component {
                fn process(answers: Vec<String>) -> Option<String> {
                    $process(&answers)
                }

                fn questions(wanted: Vec<live::Change>) -> Result<Vec<String>, $crate::PluginError> {
                    $questions(SETTINGS.get()?, &changes(wanted))
                }

                fn update(
                    node: $crate::Node,
                    wanted: Vec<live::Change>,
                    answers: Vec<String>,
                ) -> Result<live::Reaction, $crate::PluginError> {
                    Ok(match $update(SETTINGS.get()?, &node, &changes(wanted), &answers)? {
                        $crate::Reaction::Commands(commands) => live::Reaction::Commands(commands),
                        $crate::Reaction::CommandsAndReload(commands) => live::Reaction::CommandsAndReload(commands),
                        $crate::Reaction::Reload => live::Reaction::Reload,
                    })
                }
            }
        }
    };
}

/// The part that both kinds of output plugins share.
#[doc(hidden)]
#[macro_export]
macro_rules! output_guest {
    ($frame:path, $render:path) => {
        use exports::waypost::plugin::output;

        fn parts(parts: Vec<$crate::Part>) -> Vec<output::Part> {
            parts.into_iter().map(|p| output::Part { path: p.path, key: p.key, text: p.text }).collect()
        }

        impl output::Guest for Component {
            fn frame(node: $crate::Node) -> Result<Vec<output::Part>, $crate::PluginError> {
                $frame(SETTINGS.get()?, &node).map(parts)
            }

            fn render(node: $crate::Node, service: $crate::Service) -> Result<output::Rendering, $crate::PluginError> {
                let rendering: $crate::Rendering = $render(SETTINGS.get()?, &node, &service)?;
                Ok(output::Rendering { parts: parts(rendering.parts), claims: rendering.claims })
            }
        }
    };
}
