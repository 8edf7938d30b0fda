//! The sources keep to the layers of CONTRIBUTING.md, and no files import each other in a loop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A path of module names from the crate's root.
type Module = Vec<String>;

/// The sources, by their modules.
struct Sources {
    texts: BTreeMap<Module, String>,
    /// What a module re-exports, and from where.
    exports: BTreeMap<(Module, String), Module>,
}

impl Sources {
    /// Reads the sources below a folder, without comments, strings and tests.
    fn read(root: &Path) -> Self {
        let mut texts = BTreeMap::new();
        let mut open = vec![root.to_path_buf()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let inside = path.strip_prefix(root).unwrap().with_extension("");
                    let mut module: Module = inside
                        .iter()
                        .map(|name| name.to_str().unwrap().to_owned())
                        .collect();
                    module.retain(|name| name != "mod" && name != "lib");
                    texts.insert(module, fs::read_to_string(&path).unwrap());
                }
            }
        }
        Self::of(texts)
    }

    fn of(texts: BTreeMap<Module, String>) -> Self {
        let texts: BTreeMap<_, _> = texts
            .into_iter()
            .map(|(module, text)| (module, bare(&text)))
            .collect();
        let mut exports = BTreeMap::new();
        for (module, text) in &texts {
            for statement in uses(text).filter(|(is_public, _)| *is_public) {
                for path in expand(module, statement.1, &texts) {
                    if let Some(name) = path.last() {
                        exports.insert((module.clone(), name.clone()), path.clone());
                    }
                }
            }
        }
        Sources { texts, exports }
    }

    /// The module that defines what a path names: re-exports are followed.
    fn defining(&self, path: &[String]) -> Module {
        let mut module = Module::new();
        for (at, name) in path.iter().enumerate() {
            let deeper: Module = module.iter().chain([name]).cloned().collect();
            if self.texts.contains_key(&deeper) {
                module = deeper;
                continue;
            }
            return match self.exports.get(&(module.clone(), name.clone())) {
                Some(source) if source.as_slice() != &path[..=at] => self.defining(source),
                _ => module,
            };
        }
        module
    }

    /// The modules that a module imports from, without itself. What it only re-exports does not
    /// count.
    fn imports(&self, module: &Module) -> BTreeSet<Module> {
        let mut text = self.texts[module].clone();
        for (_, statement) in uses(&self.texts[module]).filter(|(is_public, _)| *is_public) {
            text = text.replace(&format!("use {statement};"), "");
        }
        let mut paths: Vec<Module> = uses(&text)
            .flat_map(|(_, statement)| expand(module, statement, &self.texts))
            .collect();
        for (start, _) in text.match_indices("crate::") {
            let before = text[..start].trim_end();
            let is_path =
                !before.ends_with("in") && !before.ends_with("use") && !before.ends_with(':');
            if is_path {
                let end = text[start..]
                    .find(|c: char| c != ':' && c != '_' && !c.is_alphanumeric())
                    .map_or(text.len(), |length| start + length);
                paths.extend(expand(module, &text[start..end], &self.texts));
            }
        }
        let mut found: BTreeSet<_> = paths.iter().map(|path| self.defining(path)).collect();
        found.remove(module);
        // The root only re-exports.
        found.remove(&Module::new());
        found
    }

    /// The imports that the table of layers does not allow.
    fn violations(&self, allowed: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let mut found = Vec::new();
        for module in self.texts.keys() {
            let Some(layer) = module.first() else {
                continue;
            };
            let Some(may_use) = allowed.get(layer) else {
                found.push(format!("no row for the layer {layer}"));
                continue;
            };
            for import in self.imports(module) {
                if import[0] != *layer && !may_use.contains(&import[0]) {
                    found.push(format!(
                        "{} imports {}",
                        module.join("::"),
                        import.join("::")
                    ));
                }
            }
        }
        found
    }

    /// A loop of imports, if there is one.
    fn circle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.texts
            .keys()
            .find_map(|module| self.circle_from(module, &mut Vec::new(), &mut done))
    }

    fn circle_from(
        &self,
        module: &Module,
        trail: &mut Vec<Module>,
        done: &mut BTreeSet<Module>,
    ) -> Option<Vec<String>> {
        if let Some(start) = trail.iter().position(|seen| seen == module) {
            return Some(
                trail[start..]
                    .iter()
                    .map(|module| module.join("::"))
                    .collect(),
            );
        }
        if !done.insert(module.clone()) {
            return None;
        }
        trail.push(module.clone());
        let circle = self.imports(module).iter().find_map(|import| {
            // A module that is done is in no loop, unless the trail leads through it.
            match done.contains(import) && !trail.contains(import) {
                true => None,
                false => self.circle_from(import, trail, done),
            }
        });
        trail.pop();
        circle
    }
}

/// The text without comments, string literals and the tests at its end.
fn bare(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut bare = String::new();
    let mut is_string = false;
    for line in text.lines() {
        let mut last = ' ';
        for (at, c) in line.char_indices() {
            match c {
                '"' if last != '\\' && last != '\'' => is_string = !is_string,
                '/' if !is_string && line[at..].starts_with("//") => break,
                _ if !is_string => bare.push(c),
                _ => {}
            }
            last = c;
        }
        bare.push('\n');
    }
    bare
}

/// The `use` statements of a text: whether one is public, and the tree that it names.
fn uses(text: &str) -> impl Iterator<Item = (bool, &str)> {
    text.match_indices("use ").filter_map(|(start, _)| {
        let line = text[..start].rfind('\n').map_or(0, |end| end + 1);
        let before = text[line..start].trim();
        let is_public = before == "pub" || before.starts_with("pub(") && before.ends_with(')');
        if !before.is_empty() && !is_public {
            return None;
        }
        let tree = &text[start + "use ".len()..];
        Some((is_public, tree.split(';').next()?))
    })
}

/// The paths of a `use` tree that lead into this crate, from its root.
fn expand(module: &Module, tree: &str, texts: &BTreeMap<Module, String>) -> Vec<Module> {
    let mut found = Vec::new();
    flatten(&Module::new(), tree.trim(), &mut found);
    found
        .into_iter()
        .filter_map(|path| match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "super" => {
                let levels = path.iter().take_while(|name| *name == "super").count();
                let parent = module[..module.len().checked_sub(levels)?].iter();
                Some(parent.chain(&path[levels..]).cloned().collect())
            }
            "self" => Some(module.iter().chain(&path[1..]).cloned().collect()),
            _ => {
                let inner: Module = module.iter().chain(&path).cloned().collect();
                texts.contains_key(&inner[..=module.len()]).then_some(inner)
            }
        })
        .collect()
}

fn flatten(prefix: &Module, tree: &str, found: &mut Vec<Module>) {
    if let Some(open) = tree.find('{') {
        let mut prefix = prefix.clone();
        prefix.extend(
            tree[..open]
                .split("::")
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(String::from),
        );
        let inside = &tree[open + 1..tree.rfind('}').unwrap()];
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    flatten(&prefix, &inside[start..at], found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return flatten(&prefix, &inside[start..], found);
    }
    let tree = tree.split(" as ").next().unwrap().trim();
    if !tree.is_empty() {
        let names = tree.split("::").map(str::trim).filter(|name| *name != "*");
        let mut path = prefix.clone();
        path.extend(names.map(String::from));
        if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
            path.pop();
        }
        found.push(path);
    }
}

/// The table of CONTRIBUTING.md: what each layer may use.
fn table() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let names = |cell: &str| -> Vec<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(String::from)
            .collect()
    };
    text.lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            let file = names(cells.get(1)?).into_iter().next()?;
            let layer = file.strip_prefix("src/")?;
            let layer = layer
                .trim_end_matches('/')
                .trim_end_matches(".rs")
                .to_owned();
            Some((layer, names(cells.get(3)?)))
        })
        .collect()
}

#[test]
fn imports_follow_the_layers() {
    let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let allowed = table();
    assert!(allowed.len() >= 7, "the table was not found: {allowed:?}");
    assert_eq!(allowed["sys"], [""; 0], "sys uses nothing above it");
    assert_eq!(sources.violations(&allowed), [""; 0]);
    // The check finds anything at all.
    let imports: usize = sources
        .texts
        .keys()
        .map(|module| sources.imports(module).len())
        .sum();
    assert!(imports > 200, "only {imports} imports were found");
}

#[test]
fn no_files_import_each_other_in_a_loop() {
    let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert_eq!(sources.circle(), None);
}

/// A small crate in which `raw` and `sys` are as given.
fn crate_of(raw: &str, sys: &str) -> Sources {
    let text = |module: &str, text: &str| {
        let module = module.split("::").filter(|name| !name.is_empty());
        (module.map(String::from).collect(), String::from(text))
    };
    Sources::of(BTreeMap::from([
        text("", "mod raw; mod sys;\npub use raw::Lock;"),
        text("raw", raw),
        text(
            "sys",
            "mod futex;\nmod clock;\npub(crate) use futex::{wake, wait};\n",
        ),
        text("sys::futex", sys),
        text("sys::clock", "use super::wait;\n"),
    ]))
}

#[test]
fn an_import_of_a_higher_layer_is_found_in_every_spelling() {
    let allowed = BTreeMap::from([
        ("raw".to_owned(), vec!["sys".to_owned()]),
        ("sys".to_owned(), vec![]),
    ]);
    let sound = crate_of(
        "use crate::sys::{self, wake};\n",
        "use std::fmt; // crate::raw\n",
    );
    assert_eq!(sound.violations(&allowed), [""; 0]);
    assert_eq!(sound.circle(), None);
    for upwards in [
        "use crate::raw::Lock;\n",
        "use crate::{raw::Lock as Other};\n",
        "use crate::Lock;\n",
        "fn f() { crate::raw::lock() }\n",
        "use super::super::raw::Lock;\n",
        "use crate::{\n    sys,\n    raw::{Lock, Word},\n};\n",
    ] {
        let broken = crate_of("pub(crate) struct Lock;\n", upwards);
        assert_eq!(
            broken.violations(&allowed),
            ["sys::futex imports raw"],
            "{upwards}"
        );
    }
}

#[test]
fn a_loop_is_found_through_a_re_export() {
    let broken = crate_of("", "use super::clock::now;\n");
    assert_eq!(broken.circle().unwrap(), ["sys::clock", "sys::futex"]);
}

#[test]
fn comments_fit_a_hundred_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<_> = ["src", "tests", "benches", "examples", "derive"]
        .map(|folder| root.join(folder))
        .into();
    let (mut files, mut long) = (0, Vec::new());
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            open.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files += 1;
            let text = fs::read_to_string(&path).unwrap();
            let comments = (1..).zip(text.lines()).filter(|(_, line)| {
                line.trim_start().starts_with("//") && line.chars().count() > 100
            });
            long.extend(comments.map(|(number, _)| format!("{}:{number}", path.display())));
        }
    }
    assert!(files > 200, "only {files} files were found");
    assert_eq!(long, [""; 0]);
}
