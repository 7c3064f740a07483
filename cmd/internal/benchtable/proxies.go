package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	proxyWorkers     = 4
	proxyConnections = 32
)

// Headers of invocations: what a worker or a proxy wants, and what SageMaker's
// clients send.
var (
	plain  = map[string]string{"Content-Type": "text/csv"}
	signed = map[string]string{"Content-Type": "text/csv", "Authorization": authorization}
)

// proxies compares InvokeEndpoint with HAProxy and nginx in front of the same
// worker processes, all three choosing the least busy one.
func (b *bench) proxies(ctx context.Context) ([]row, error) {
	daemon, workers, err := b.startProcesses(ctx)
	if err != nil {
		return nil, err
	}
	defer daemon.stop()

	body := string(requestBody)
	ours := &target{name: "sagelocal", address: daemon.address, path: invokePath, header: signed, body: body}
	direct := &target{name: "a worker itself", address: workers[0], path: "/invocations", header: plain, body: body}
	targets := []*target{direct}
	var rivals []*target
	var missing []row
	for _, start := range []func(context.Context, []string) (*child, *target, error){b.startHAProxy, b.startNginx} {
		process, rival, err := start(ctx, workers)
		if err != nil {
			missing = append(missing, row{what: "InvokeEndpoint, 4 processes", beside: rival.name, theirs: oneLine(err.Error())})
			continue
		}
		defer process.stop()
		rival.path, rival.header, rival.body = "/invocations", plain, body
		rivals = append(rivals, rival)
	}
	targets = append(append(targets, rivals...), ours)
	if err := b.load(ctx, proxyConnections, b.rounds, b.round, targets...); err != nil {
		return missing, err
	}

	var rows []row
	for _, rival := range append(rivals, direct) {
		r := row{
			what: "InvokeEndpoint, 4 processes, 32 connections", ours: perSecond(ours.rate()),
			beside: rival.name, theirs: perSecond(rival.rate()), ratio: times(ours.rate() / rival.rate()),
		}
		if rival.name == haproxyName {
			r.aim, r.reached = "≥ 1 ×", reached(ours.rate() >= rival.rate())
		}
		rows = append(rows, r)
	}
	for _, rival := range append(rivals, direct) {
		rows = append(rows, row{
			what: "its P99", ours: milliseconds(ours.p99()),
			beside: rival.name, theirs: milliseconds(rival.p99()), ratio: times(ours.p99() / rival.p99()),
		})
	}
	rows = append(rows, missing...)
	more, err := processMemory(daemon)
	return append(rows, more...), err
}

// processMemory is what the daemon and its workers' supervisors take right
// after the load.
func processMemory(daemon *server) ([]row, error) {
	m, err := memoryOf(daemon.pid())
	if err != nil {
		return nil, err
	}
	rows := []row{{
		what: "memory of the daemon after that load", ours: m.String() + fmt.Sprintf(", peak %.1f", m.peak),
		aim: "< 30 MB", reached: reached(m.rss < memoryAim),
	}}
	supervisors, err := childrenOf(daemon.pid())
	if err != nil || len(supervisors) == 0 {
		return rows, err
	}
	if m, err = memoryOf(supervisors...); err != nil {
		return rows, err
	}
	n := float64(len(supervisors))
	m = memory{rss: m.rss / n, pss: m.pss / n}
	return append(rows, row{what: "memory of one worker's supervisor", ours: m.String()}), nil
}

const haproxyName = "HAProxy leastconn"

func (b *bench) startHAProxy(ctx context.Context, workers []string) (*child, *target, error) {
	t := &target{name: haproxyName}
	program, err := tool("haproxy", "`apt install haproxy`, `brew install haproxy`")
	if err != nil {
		return nil, t, err
	}
	if t.address, err = freeAddress(ctx); err != nil {
		return nil, t, err
	}
	var s strings.Builder
	fmt.Fprintf(&s, `global
  nbthread 2
  maxconn 4096
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
frontend invocations
  bind %s
  default_backend workers
backend workers
  balance leastconn
  http-reuse always
`, t.address)
	for i, w := range workers {
		fmt.Fprintf(&s, "  server w%d %s\n", i, w)
	}
	path := filepath.Join(b.dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(s.String()), 0o600); err != nil {
		return nil, t, err
	}
	return proxy(ctx, t, program, "-db", "-q", "-f", path)
}

func (b *bench) startNginx(ctx context.Context, workers []string) (*child, *target, error) {
	t := &target{name: "nginx least_conn"}
	program, err := tool("nginx", "`apt install nginx`, `brew install nginx`")
	if err != nil {
		return nil, t, err
	}
	if t.address, err = freeAddress(ctx); err != nil {
		return nil, t, err
	}
	var servers strings.Builder
	for _, w := range workers {
		fmt.Fprintf(&servers, "    server %s;\n", w)
	}
	// The zone makes its two worker processes count requests together.
	text := fmt.Sprintf(`daemon off;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log /dev/null crit;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path %[1]s/nginx-body;
  proxy_temp_path %[1]s/nginx-proxy;
  fastcgi_temp_path %[1]s/nginx-fastcgi;
  uwsgi_temp_path %[1]s/nginx-uwsgi;
  scgi_temp_path %[1]s/nginx-scgi;
  upstream workers {
    zone workers 128k;
    least_conn;
%[2]s    keepalive 64;
    keepalive_requests 1000000000;
  }
  server {
    listen %[3]s;
    location / {
      proxy_pass http://workers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
  }
}
`, b.dir, servers.String(), t.address)
	path := filepath.Join(b.dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, t, err
	}
	return proxy(ctx, t, program, "-p", b.dir, "-e", "/dev/null", "-c", path)
}

func proxy(ctx context.Context, t *target, program string, args ...string) (*child, *target, error) {
	process, err := spawn(ctx, true, program, args...)
	if err != nil {
		return nil, t, err
	}
	if err := process.awaitPort(ctx, t.address); err != nil {
		process.stop()
		return nil, t, err
	}
	return process, t, nil
}
