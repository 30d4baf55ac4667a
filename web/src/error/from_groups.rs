//! Which cause of the table each error about consumer groups is.

use pubg1_actors::GroupRequestError;

use super::{ApiError, Cause};

impl From<GroupRequestError> for ApiError {
    fn from(error: GroupRequestError) -> Self {
        let message = error.to_string();
        let cause = match error {
            GroupRequestError::Append(error) => return Self { message, ..Self::from(error) },
            GroupRequestError::UnknownPartition(error) => return error.into(),
            GroupRequestError::Loading { .. } => Cause::Recovering,
            GroupRequestError::UnknownGroup(_) => Cause::NoGroup,
            GroupRequestError::UnknownInstance { .. } | GroupRequestError::UnknownMember { .. } => Cause::NoConsumer,
            GroupRequestError::InstanceExists { .. } => Cause::ConsumerExists,
            GroupRequestError::InvalidDefinition(_) => Cause::InvalidConsumer,
            GroupRequestError::Invalid(_) => Cause::Unprocessable,
            GroupRequestError::MixedSubscription(_)
            | GroupRequestError::NotSubscribed(_)
            | GroupRequestError::NotAssigned(_) => Cause::IllegalState,
            GroupRequestError::NotOwner(_) | GroupRequestError::Expelled(_) | GroupRequestError::Fenced { .. } => {
                Cause::MemberExpelled
            }
            GroupRequestError::DeliveryUnknown(_) => Cause::DeliveryUnknown,
            GroupRequestError::HasMembers(_) => Cause::GroupNotEmpty,
            GroupRequestError::InconsistentProtocol(_) | GroupRequestError::GroupFull { .. } => Cause::NotPossible,
            // One request of an instance at a time: a second one is too much in flight.
            GroupRequestError::Busy { .. } => Cause::Overloaded,
            GroupRequestError::PollGone(_) | GroupRequestError::Rebalancing { .. } => Cause::Unavailable,
        };
        Self::new(cause, message)
    }
}

#[cfg(test)]
mod tests {
    use pubg1_actors::AppendError;
    use pubg1_model::consumer_instance::PollId;

    use super::*;

    #[test]
    fn what_may_succeed_later_says_when() {
        let (group, retry_after_ms) = ("g".parse().unwrap(), 1);
        for error in [
            GroupRequestError::Loading { group, retry_after_ms },
            GroupRequestError::Append(AppendError::OutcomeUnknown { retry_after_ms }),
            GroupRequestError::Append(AppendError::Draining),
            GroupRequestError::Busy { instance: "i".parse().unwrap(), retry_after_ms },
            GroupRequestError::Rebalancing { group: "g".parse().unwrap(), retry_after_ms },
            GroupRequestError::PollGone(PollId(1)),
        ] {
            let text = error.to_string();
            let refusal = ApiError::from(error);
            assert!(refusal.cause().row().retry_after_s.is_some(), "{text}");
            assert_eq!(refusal.message(), text);
        }
    }
}
