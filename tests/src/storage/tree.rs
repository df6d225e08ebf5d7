//! Files and directories, in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(Bytes),
}

/// All files and directories, by their full path. The root is always there.
#[derive(Debug, Default)]
pub(super) struct Tree(BTreeMap<String, Node>);

fn key(path: &[String]) -> String {
    path.iter().fold(String::new(), |text, element| text + "/" + element)
}

impl Tree {
    pub(super) fn get(&self, path: &[String]) -> Option<Node> {
        if path.is_empty() { Some(Node::Directory) } else { self.0.get(&key(path)).cloned() }
    }

    pub(super) fn file(&self, path: &[String]) -> Option<Bytes> {
        match self.get(path) {
            Some(Node::File(content)) => Some(content),
            _ => None,
        }
    }

    /// Whether the directory that is to hold `path` is there.
    pub(super) fn has_parent(&self, path: &[String]) -> bool {
        let parent = path.split_last().map_or(path, |(_, parent)| parent);
        self.get(parent) == Some(Node::Directory)
    }

    /// Makes a directory and those above it that are missing; false when a file stands in the way.
    pub(super) fn make_directories(&mut self, path: &[String]) -> bool {
        (1..=path.len()).all(|depth| {
            let node = self.0.entry(key(&path[..depth])).or_insert(Node::Directory);
            *node == Node::Directory
        })
    }

    /// Makes or replaces a file.
    pub(super) fn put(&mut self, path: &[String], content: Bytes) {
        self.0.insert(key(path), Node::File(content));
    }

    /// Gives an open file its content; a file that was removed meanwhile stays away.
    pub(super) fn fill(&mut self, path: &[String], content: Bytes) {
        if let Some(Node::File(old)) = self.0.get_mut(&key(path)) {
            *old = content;
        }
    }

    /// Removes a file or an empty directory; false when it is a directory with something in it.
    pub(super) fn remove(&mut self, path: &[String]) -> bool {
        let key = key(path);
        let below = format!("{key}/");
        let empty = self.0.range(below.clone()..).next().is_none_or(|(next, _)| !next.starts_with(&below));
        empty && self.0.remove(&key).is_some()
    }

    pub(super) fn files(&self) -> Vec<String> {
        let files = self.0.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::request::elements;

    #[test]
    fn directories_are_made_above_and_kept_while_full() {
        let mut tree = Tree::default();
        let file = elements("/a/b/f");
        assert!(!tree.has_parent(&file));
        assert!(tree.make_directories(&elements("/a/b")));
        tree.put(&file, Bytes::from_static(b"x"));
        assert!(tree.has_parent(&file));
        assert!(!tree.make_directories(&elements("/a/b/f/g")), "a file stands in the way");
        assert!(!tree.remove(&elements("/a/b")));
        assert!(tree.remove(&file) && tree.remove(&elements("/a/b")));
        tree.fill(&file, Bytes::from_static(b"late"));
        assert!(tree.files().is_empty());
    }
}
