package simulated

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sagelocal/sagelocal/dataplane"
)

const (
	maxSession = 24 * time.Hour
	// maxSessions bounds what one worker remembers.
	maxSessions = 10_000
)

// closeRequest in a JSON body ends a session, as in TorchServe's stateful
// serving, which SageMaker's examples use.
var closeRequest = []byte(`"CLOSE"`)

// sessions are those that one worker has begun.
type sessions struct {
	mu   sync.Mutex
	open map[string]time.Time // until when
}

// attend begins, continues or ends the request's session and says so in the
// answer. It is false, with the answer written, when the worker does not know the
// session: it never does when a request has come to the wrong instance.
func (s *sessions) attend(req *dataplane.Request, ans *dataplane.Answer, lasts time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if req.SessionID == dataplane.NewSession {
		if len(s.open) >= maxSessions {
			maps.DeleteFunc(s.open, func(_ string, until time.Time) bool { return !now.Before(until) })
		}
		if len(s.open) >= maxSessions {
			explain(ans, http.StatusServiceUnavailable, "too many sessions")
			return false
		}
		if s.open == nil {
			s.open = map[string]time.Time{}
		}
		id, until := uuid.NewString(), now.Add(lasts).UTC().Truncate(time.Second)
		s.open[id] = until
		ans.NewSession = fmt.Sprintf("%s; Expires=%s", id, until.Format(time.RFC3339))
		return true
	}
	until, known := s.open[req.SessionID]
	if !known || !now.Before(until) {
		delete(s.open, req.SessionID)
		explain(ans, http.StatusBadRequest, "session not found")
		return false
	}
	if bytes.Contains(req.Body, closeRequest) {
		delete(s.open, req.SessionID)
		ans.ClosedSession = string([]byte(req.SessionID)) // the request's is the connection's
	}
	return true
}
