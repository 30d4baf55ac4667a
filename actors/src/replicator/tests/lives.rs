//! Two processes under one number.

use pubg1_model::{BrokerId, topic::TopicConfig};

use super::cluster::Cluster;
use crate::{
    FatalError,
    fixture::{ready, within},
};

#[actix_rt::test]
async fn of_two_processes_with_one_number_the_former_ends() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    let offset = cluster.append("before").await;
    // The controller's twin waits for another one to be it, before it registers.
    let is_controller = |broker: &usize| cluster.broker(*broker).services().metadata.is_controller();
    let twin = cluster.followers().await.into_iter().find(|broker| !is_controller(broker)).unwrap();
    let home = tempfile::tempdir().unwrap();
    let second = cluster.twin(twin, home.path());
    let becomes_controller = async {
        let mut controller = cluster.broker(twin).services().metadata.controller();
        let leads = controller.wait_for(|lead| lead.is_some_and(|lead| lead.broker.0 as usize == twin));
        leads.await.map(drop).unwrap();
    };
    let fatal = tokio::select! {
        fatal = within(cluster.broker(twin).fatal()) => fatal,
        // Possible on a busy machine: then the former stays, and the second waits.
        () = becomes_controller => {
            second.abort().await;
            return cluster.end().await;
        }
    };
    let number = BrokerId(u32::try_from(twin).unwrap());
    assert!(matches!(&*fatal, FatalError::NotRegistered { broker, .. } if *broker == number), "{fatal}");
    ready(&second).await;
    assert_eq!(cluster.append("after").await, offset + 1);
    second.abort().await;
    cluster.end().await;
}
