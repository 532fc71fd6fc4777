//! What became of the cluster by what an event says was done.

use serde_json::{Value, json};

use super::asked::Write;
use super::state::{Place, State, going, is_going, nothing_keeps, reduced, set, text};

impl Write<'_> {
    /// What it left behind in the cluster.
    pub(super) fn fold(&self, state: &mut State) {
        let stored = self.about.subresource.as_str();
        match (self.event.verb.as_str(), stored) {
            ("deletecollection", _) => {
                let listed: Option<Vec<Place>> =
                    self.items().map(|items| items.iter().map(|item| self.place_of(item)).collect());
                for place in listed.unwrap_or_else(|| self.members(state).unwrap_or_default()) {
                    self.gone(state, &place);
                }
            }
            ("delete", _) => {
                match self.response.clone().map(reduced).filter(|object| text(object, "/kind") != "Status") {
                    Some(object) if is_going(&object) && !nothing_keeps(&object) => {
                        state.put_reduced(self.place.clone(), object, false);
                    }
                    Some(_) => state.remove(&self.place),
                    None => self.gone(state, &self.place),
                }
            }
            ("create", "eviction") => {
                if let Some(held) = state.get(&self.place) {
                    let (object, assumed) = (going(&held.object, &self.event.at.to_string()), held.assumed);
                    state.put_reduced(self.place.clone(), object, assumed);
                }
            }
            (_, "scale") => {
                let replicas = self.response.as_ref().and_then(|scale| scale.pointer("/spec/replicas")).cloned();
                let known = state.get(&self.place).map(|held| (Value::clone(&held.object), held.assumed));
                if let Some((mut object, assumed)) = known.filter(|_| self.response.is_some()) {
                    set(&mut object, &["spec", "replicas"], replicas.unwrap_or_else(|| json!(0)));
                    state.put_reduced(self.place.clone(), object, assumed);
                }
            }
            _ => self.written(state),
        }
    }

    fn written(&self, state: &mut State) {
        let (object, assumed) = match (&self.response, &self.request) {
            (Some(object), _) => (object, false),
            (None, Some(object)) if self.operation() == "CREATE" => (object, true),
            _ => return state.doubt(&self.place),
        };
        let title = text(object, "/kind");
        if title.is_empty() || title == "Status" || text(object, "/metadata/name") != self.place.name {
            return;
        }
        if state.departed.get(text(object, "/metadata/uid")).is_some() {
            return;
        }
        let namespaced = !self.place.namespace.is_empty();
        state.kinds.learn(&self.place.group, &self.about.api_version, &self.place.plural, title, namespaced);
        let object = object.clone();
        if is_going(&object) && nothing_keeps(&object) {
            state.remove(&self.place);
        } else {
            state.put(self.place.clone(), object, assumed);
        }
    }

    /// What is deleted without a word of what is left: it goes at once, unless something keeps it.
    fn gone(&self, state: &mut State, place: &Place) {
        let Some(held) = state.get(place) else { return };
        let keeps = !nothing_keeps(&held.object);
        // A pod on a node ends before it goes.
        let ends = place.plural == "pods" && place.group.is_empty() && !text(&held.object, "/spec/nodeName").is_empty();
        if keeps || ends {
            let (object, assumed) = (going(&held.object, &self.event.at.to_string()), held.assumed);
            state.put_reduced(place.clone(), object, assumed);
        } else {
            state.remove(place);
        }
    }
}
