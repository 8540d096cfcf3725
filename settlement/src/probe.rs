//! Asks every node of the cluster, each by itself, which process it is: `system.local.gossip_generation`, which is
//! another number after every start. What the answers mean is [`crate::durable`]'s part.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use scylla::client::session::Session;
use scylla::cluster::Node;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::{Consistency, Statement};
use tokio::time::Instant;

use crate::durable::{NodeGeneration, Probe};

/// `system.local` is local to the node that is asked, hence consistency ONE.
const QUESTION: &str = "SELECT gossip_generation FROM system.local WHERE key='local'";

/// One round of asking. Nodes are asked at the same time; one that does not answer within `timeout` is unasked.
pub async fn ask_all(session: Arc<Session>, timeout: Duration) -> Probe {
    let started = Instant::now();
    let state = session.get_cluster_state();
    let questions = state.get_nodes_info().iter().map(|node| ask(&session, node, timeout));
    let nodes = join_all(questions).await.into_iter().collect();
    Probe {
        started,
        finished: Instant::now(),
        nodes,
    }
}

async fn ask(session: &Session, node: &Arc<Node>, timeout: Duration) -> (u128, Option<NodeGeneration>) {
    let mut question = Statement::new(QUESTION);
    question.set_consistency(Consistency::One);
    question.set_request_timeout(Some(timeout));
    // Idempotent, but another node's answer would be another node's: only this one is asked.
    let target = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(node.host_id), None);
    question.set_load_balancing_policy(Some(target));
    let answer = session.query_unpaged(question, ()).await.ok();
    let generation = answer
        .and_then(|answer| answer.into_rows_result().ok())
        .and_then(|rows| rows.single_row::<(Option<NodeGeneration>,)>().ok())
        .and_then(|(generation,)| generation);
    (node.host_id.as_u128(), generation)
}
