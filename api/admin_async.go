package api

import "net/http"

// getAsync shows the queues of asynchronous requests, of every account or of
// ?account=.
func (a *admin) getAsync(r *http.Request) (any, error) {
	return map[string]any{"queues": a.plane.AsyncStatus(r.URL.Query().Get("account"))}, nil
}

// getNotifications shows the last notifications, of every account or of ?account=.
func (a *admin) getNotifications(r *http.Request) (any, error) {
	return map[string]any{"notifications": a.plane.Notifications(r.URL.Query().Get("account"))}, nil
}
