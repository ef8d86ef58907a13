use super::{Builder, Slot};
use crate::Need;
use crate::loader::path::Path;
use crate::loader::problem::{Problem, nearest};
use crate::loader::tree::Tree;

impl Builder {
    /// Reports needs that come from settings and that nothing satisfies. What
    /// the program itself gets wrong is found when the services are built.
    pub(super) fn check_needs(&self, tree: &Tree, problems: &mut Vec<Problem>) {
        for slot in &self.slots {
            for need in slot.entry.needs() {
                let Some((path, text)) = self.problem_with(slot, &need) else {
                    continue;
                };
                problems.push(Problem::new(&path, text, tree.origin(&path)));
            }
        }
    }

    fn problem_with(&self, slot: &Slot, need: &Need) -> Option<(Path, String)> {
        let name = need.name();
        match self.slots.iter().find(|other| other.entry.name() == name) {
            Some(needed) if need.is_vital() => {
                let is_refused = slot.treatment.required && !needed.treatment.required;
                let path = slot.path().key("required");
                is_refused.then(|| (path, format!("must be false as long as `{name}` is optional")))
            }
            Some(_) => None,
            None if self.adopted.iter().any(|adopted| adopted.service.name() == &**name) => None,
            None => {
                let path = slot.path().join(need.setting()?);
                let (section, instance) = name.split_once('.').unwrap_or((name, ""));
                let kin = self.slots.iter().filter(|other| other.entry.section() == section);
                let meant = nearest(instance, kin.map(|other| other.entry.instance()));
                let meant = meant.map(|meant| format!("; did you mean `{meant}`?"));
                let meant = meant.unwrap_or_default();
                Some((path, format!("there is no table `[{name}]` to define it{meant}")))
            }
        }
    }
}
