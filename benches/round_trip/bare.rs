//! A proxy of nothing but pingora: one peer, no filters, the same settings as the gateway's.

use async_trait::async_trait;
use pingora::modules::http::HttpModules;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use std::time::Duration;

struct Bare(HttpPeer);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }
}

/// The gateway's: an event loop per thread, no work stealing, a pool above the peak of concurrent requests.
pub(crate) fn settings() -> ServerConf {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ServerConf { threads, work_stealing: false, upstream_keepalive_pool_size: 1024, ..ServerConf::default() }
}

/// Serves until standard input ends: pingora sleeps on signals, and callgrind writes its file only at an exit.
pub(crate) fn serve(listen: &str, upstream: &str, settings: ServerConf) -> ! {
    std::thread::spawn(|| {
        let mut input = String::new();
        // Whatever ends the input, the measurement is over.
        let _ = std::io::stdin().read_line(&mut input);
        std::process::exit(0);
    });
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let mut peer = HttpPeer::new(upstream, false, String::new());
    peer.options.connection_timeout = Some(Duration::from_secs(2));
    peer.options.total_connection_timeout = Some(Duration::from_secs(2));
    peer.options.read_timeout = Some(Duration::from_mins(1));
    peer.options.write_timeout = Some(Duration::from_mins(1));
    peer.options.idle_timeout = Some(Duration::from_secs(90));
    let mut service = http_proxy_service(&server.configuration, Bare(peer));
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}
