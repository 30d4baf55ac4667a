//! A group that commits growing offsets never finds a smaller one than was acknowledged, or found, before it asked.

use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct GroupOffsetsNeverGoBack(BTreeMap<String, u64>);

impl GroupOffsetsNeverGoBack {
    pub(crate) fn committed(&mut self, group: &str, offset: u64) {
        let floor = self.0.entry(group.to_owned()).or_default();
        *floor = offset.max(*floor);
    }

    pub(crate) fn floor(&self, group: &str) -> Option<u64> {
        self.0.get(group).copied()
    }

    pub(crate) fn read(&mut self, group: &str, floor: Option<u64>, found: Option<u64>) -> Result<(), String> {
        if found < floor {
            return Err(format!("group {group}: {floor:?} was committed before it asked, it is told {found:?}"));
        }
        if let Some(found) = found {
            self.committed(group, found);
        }
        Ok(())
    }
}
