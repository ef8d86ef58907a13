use std::collections::BTreeSet;

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::treatment::Treatment;
use super::{Builder, CONTAINER, Slot};
use crate::component::DEFAULT;
use crate::loader::schema::Schemas;
use crate::{Connections, ContainerConfig, Error, Result, WiringProblem};

const DEFINITIONS: &str = "#/$defs/";

impl Builder {
    /// Returns the schema of everything that was added.
    pub(super) fn schemas(&self) -> Result<Schemas> {
        let mut problems = self.name_problems();
        let mut generator = SchemaGenerator::default();
        let treatment = generator.subschema_for::<Treatment>().to_value();
        let container = generator.subschema_for::<ContainerConfig>().to_value();
        let mut sections = Map::from_iter([(CONTAINER.to_owned(), container)]);
        for section in &self.sections {
            sections.insert(section.name().to_owned(), section.schema(&mut generator));
        }
        let schema = |slot: &Slot| slot.entry.schema(&mut generator);
        let schemas: Vec<_> = self.slots.iter().map(schema).collect();
        let definitions = generator.take_definitions(true);
        let treatment = properties(resolved(&treatment, &definitions));
        for (slot, schema) in self.slots.iter().zip(&schemas) {
            let mut schema = resolved(schema, &definitions).clone();
            let shared = slot.entry.connections();
            if let Some((shared, connections)) = shared.and_then(|shared| take(&mut schema, shared))
            {
                sections.entry(shared.section).or_insert(connections);
            }
            let own = properties(&schema);
            problems.extend(own.keys().filter(|key| treatment.contains_key(*key)).map(|key| {
                let name = format!("{}.{key}", slot.entry.section());
                WiringProblem::BadName { name, reason: "the container keeps this key for itself" }
            }));
            extend(&mut schema, treatment.clone());
            problems.extend(place(&mut sections, slot, schema));
        }
        problems.dedup();
        if !problems.is_empty() {
            return Err(Error::Wiring { problems });
        }
        Ok(Schemas::new(json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": sections,
            "$defs": definitions,
        })))
    }

    fn name_problems(&self) -> Vec<WiringProblem> {
        let entries = || self.slots.iter().map(|slot| &slot.entry);
        let of_services: BTreeSet<_> = entries().map(|entry| entry.section()).collect();
        let connections = entries().filter_map(|entry| entry.connections());
        let of_connections: BTreeSet<_> = connections.map(|shared| shared.section).collect();
        let of_host = self.sections.iter().map(|section| section.name());
        let sections = of_services.into_iter().chain(of_connections).chain(of_host);
        let names = entries().map(|entry| &**entry.name());
        let services = names.chain(self.adopted.iter().map(|adopted| adopted.service.name()));
        let twice = repeated(sections.chain([CONTAINER])).into_iter().chain(repeated(services));
        let twice = twice.map(|name| WiringProblem::Twice { name: name.to_owned() });
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let odd = entries()
            .filter(|entry| entry.instance().is_empty() || !entry.instance().chars().all(is_plain));
        let odd = odd.map(|entry| WiringProblem::BadName {
            name: entry.name().to_string(),
            reason: "expected letters, digits, `_` and `-`",
        });
        twice.chain(odd).collect()
    }
}

/// Returns what comes up a second time.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

/// Follows a reference to the definitions.
fn resolved<'a>(schema: &'a Value, definitions: &'a Map<String, Value>) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let definition = reference.and_then(|name| definitions.get(name.strip_prefix(DEFINITIONS)?));
    definition.unwrap_or(schema)
}

fn properties(schema: &Value) -> Map<String, Value> {
    schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn extend(schema: &mut Value, more: Map<String, Value>) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.extend(more);
    }
}

/// Takes the field that a section of its own fills.
fn take(schema: &mut Value, shared: Connections) -> Option<(Connections, Value)> {
    let taken = schema.get_mut("properties")?.as_object_mut()?.remove(shared.field)?;
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|key| key != shared.field);
    }
    Some((shared, taken))
}

/// Puts the schema of an instance into that of its section.
fn place(sections: &mut Map<String, Value>, slot: &Slot, schema: Value) -> Option<WiringProblem> {
    let (section, instance) = (slot.entry.section(), slot.entry.instance());
    let empty = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let known = sections.entry(section).or_insert(empty);
    let before = properties(known);
    if instance == DEFAULT {
        let clash = properties(&schema).into_iter().map(|(field, _)| field);
        let clash = clash.into_iter().find(|field| before.contains_key(field));
        *known = schema;
        extend(known, before);
        return clash.map(|field| taken(section, &field));
    }
    let clash = before.contains_key(instance).then(|| taken(section, instance));
    extend(known, Map::from_iter([(instance.to_owned(), schema)]));
    clash
}

fn taken(section: &str, instance: &str) -> WiringProblem {
    let name = format!("{section}.{instance}");
    WiringProblem::BadName { name, reason: "the section has a field of that name" }
}
