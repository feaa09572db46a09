//! The files of a crate use each other in one direction, so that each can be read with only what is below it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harness::repository;
use syn::visit::{self, Visit};

/// Segments below the crate's root; the root itself has none.
type Module = Vec<String>;

/// A source file: what it imports, and every path that it names.
#[derive(Default)]
struct Source {
    /// Names that a `use` brings in, and what each stands for.
    imports: BTreeMap<String, Module>,
    paths: BTreeSet<Module>,
    /// Items it defines, which no import can stand for.
    items: BTreeSet<String>,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut source = Source::default();
        source.visit_file(&parsed);
        source
    }

    fn import(&mut self, prefix: &[String], tree: &syn::UseTree, is_public: bool) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        let (alias, path) = match tree {
            syn::UseTree::Path(path) => return self.import(&with(&path.ident), &path.tree, is_public),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(prefix, tree, is_public));
            }
            syn::UseTree::Name(name) if name.ident == "self" => (prefix.last().cloned(), prefix.to_vec()),
            syn::UseTree::Name(name) => (Some(name.ident.to_string()), with(&name.ident)),
            syn::UseTree::Rename(renamed) => (Some(renamed.rename.to_string()), with(&renamed.ident)),
            syn::UseTree::Glob(_) => (None, prefix.to_vec()),
        };
        // What is only passed on is not used here.
        if !is_public {
            self.paths.insert(path.clone());
        }
        self.imports.extend(alias.map(|alias| (alias, path)));
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|what| what == "test")
    })
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Mod(module) if is_test(&module.attrs) => return,
            syn::Item::Use(import) => {
                let is_public = !matches!(import.vis, syn::Visibility::Inherited);
                return self.import(&[], &import.tree, is_public);
            }
            syn::Item::Struct(item) => drop(self.items.insert(item.ident.to_string())),
            syn::Item::Enum(item) => drop(self.items.insert(item.ident.to_string())),
            syn::Item::Trait(item) => drop(self.items.insert(item.ident.to_string())),
            syn::Item::Type(item) => drop(self.items.insert(item.ident.to_string())),
            syn::Item::Const(item) => drop(self.items.insert(item.ident.to_string())),
            syn::Item::Fn(item) => drop(self.items.insert(item.sig.ident.to_string())),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    /// `pub(super)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The sources of a crate, by module.
struct Crate(BTreeMap<Module, Source>);

impl Crate {
    fn read(root: &Path, files: &[PathBuf]) -> Self {
        let module = |path: &PathBuf| -> Module {
            let path = path.strip_prefix(root).unwrap().with_extension("");
            let module: Module = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module == ["lib"] || module == ["main"] { Module::new() } else { module }
        };
        let is_read = |path: &&PathBuf| !path.iter().any(|part| part == "tests" || part == "tests.rs");
        let below = files.iter().filter(|path| path.starts_with(root));
        Crate(below.filter(is_read).map(|path| (module(path), Source::read(path))).collect())
    }

    /// The file that defines what `path` means in `module`; none when that is another crate's, or local.
    fn definer(&self, module: &[String], path: &[String], depth: usize) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let child = |base: &[String], name: &String| {
            let child = [base, std::slice::from_ref(name)].concat();
            self.0.contains_key(&child).then_some(child)
        };
        let (mut base, mut rest): (Module, &[String]) = match first.as_str() {
            "crate" => (Module::new(), rest),
            "self" => (module.to_vec(), rest),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                (module.get(..module.len().checked_sub(ups)?)?.to_vec(), &path[ups..])
            }
            _ => match self.0.get(module)?.imports.get(first) {
                Some(import) if import.first() != Some(first) => {
                    return self.definer(module, &[import, rest].concat(), depth.checked_sub(1)?);
                }
                // A word alone is a local name.
                _ => (child(module, first).filter(|_| !rest.is_empty())?, rest),
            },
        };
        while let Some(below) = rest.first().and_then(|name| child(&base, name)) {
            (base, rest) = (below, &rest[1..]);
        }
        let source = self.0.get(&base)?;
        match rest.first().and_then(|name| Some((name, source.imports.get(name)?))) {
            Some((name, import)) if !source.items.contains(name) => {
                self.definer(&base, import, depth.checked_sub(1)?).or(Some(base))
            }
            _ => Some(base),
        }
    }

    /// Which file uses which; what a crate's root defines may be used by all.
    fn edges(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let used = |module: &Module, source: &Source| {
            let used = source.paths.iter().filter_map(|path| self.definer(module, path, 8));
            used.filter(|used| used != module && !used.is_empty()).collect()
        };
        self.0.iter().map(|(module, source)| (module, used(module, source))).collect()
    }

    /// Files that use each other, each with what it uses of the others.
    fn circles(&self) -> Vec<String> {
        let edges = self.edges();
        let reached = |start: &Module| {
            let mut found = BTreeSet::new();
            let mut next: Vec<_> = edges[start].iter().collect();
            while let Some(module) = next.pop() {
                if found.insert(module) {
                    next.extend(&edges[module]);
                }
            }
            found
        };
        let reached: BTreeMap<_, _> = edges.keys().map(|module| (*module, reached(module))).collect();
        let in_circle = |one: &Module, other: &Module| reached[one].contains(other) && reached[other].contains(one);
        let pairs = edges.iter().flat_map(|(module, used)| used.iter().map(move |used| (*module, used)));
        let pairs = pairs.filter(|(module, used)| in_circle(module, used));
        pairs.map(|(module, used)| format!("{} uses {}", module.join("/"), used.join("/"))).collect()
    }
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let all = super::files(&repository(), ".rs");
    let roots = all.iter().filter(|path| path.ends_with("src/lib.rs"));
    let roots: Vec<PathBuf> = roots.map(|path| path.parent().unwrap().to_owned()).collect();
    assert!(roots.len() > 9, "{roots:?}");
    let mut wrong = Vec::new();
    for root in roots {
        let of = Crate::read(&root, &all);
        wrong.extend(of.circles().into_iter().map(|circle| format!("{}: {circle}", super::shown(&root))));
    }
    assert!(wrong.is_empty(), "move what both need into a file that uses neither: {wrong:#?}");
}

#[test]
fn a_circle_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let files = [
        write("lib.rs", "mod a; mod b; pub use a::A;"),
        write("a.rs", "mod one; pub use one::One; pub struct A; fn f() -> crate::b::B { crate::b::B }"),
        write("a/one.rs", "pub struct One; mod tests { use super::super::A; }"),
        write("b.rs", "use crate::A; pub struct B; impl B { fn g(_: A) {} }"),
    ];
    assert_eq!(Crate::read(dir.path(), &files).circles(), ["a uses b", "b uses a"]);
    let files = [&files[..3], &[write("b.rs", "use crate::a::One; pub struct B; impl B { fn g(_: One) {} }")]].concat();
    let without_tests = write("a/one.rs", "pub struct One; #[cfg(test)] mod tests { use super::super::A; }");
    assert_eq!(Crate::read(dir.path(), &[&files[..2], &files[3..], &[without_tests]].concat()).circles(), [""; 0]);
}
