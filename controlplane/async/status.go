package async

import (
	"cmp"
	"slices"
	"time"
)

// Counts are what has happened to an endpoint's requests since the daemon
// started, by the names of CloudWatch's metrics where there is one (docs:
// async-inference-monitor).
type Counts struct {
	Received                int64 `json:"received"`
	InvocationsProcessed    int64 `json:"invocations_processed"`
	InvocationFailures      int64 `json:"invocation_failures"`
	ExpiredRequests         int64 `json:"expired_requests"`
	RequestDownloadFailures int64 `json:"request_download_failures"`
	ResponseUploadFailures  int64 `json:"response_upload_failures"`
	NotificationFailures    int64 `json:"notification_failures"`
	// Interrupted is how often an instance was stopped before it had answered, and
	// the request run again.
	Interrupted int64 `json:"interrupted"`
}

// Status is an endpoint's queue now.
type Status struct {
	Account  string `json:"account"`
	Region   string `json:"region"`
	Endpoint string `json:"endpoint"`
	// ApproximateBacklogSize counts the requests that wait or are processed.
	ApproximateBacklogSize        int     `json:"approximate_backlog_size"`
	ApproximateAgeOfOldestRequest float64 `json:"approximate_age_of_oldest_request"` // seconds; of those that wait
	HasBacklogWithoutCapacity     bool    `json:"has_backlog_without_capacity"`
	Running                       int     `json:"running"`
	Counts
}

// Status lists the queues, of one account or of all when it is empty, by account,
// region and endpoint.
func (q *Queue) Status(account string) []Status {
	q.mu.Lock()
	lanes := make([]*lane, 0, len(q.lanes))
	for _, l := range q.lanes {
		if account == "" || l.key.Account == account {
			lanes = append(lanes, l)
		}
	}
	q.mu.Unlock()
	all := make([]Status, 0, len(lanes))
	for _, l := range lanes {
		all = append(all, l.status())
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Region, b.Region), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return all
}

func (l *lane) status() Status {
	capacity := l.capacity()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{
		Account: l.key.Account, Region: l.key.Region, Endpoint: l.endpoint,
		ApproximateBacklogSize: l.waiting.len() + l.entering + l.unfinished, Running: l.running, Counts: l.counts,
	}
	if oldest := l.waiting.first(); oldest != nil {
		s.ApproximateAgeOfOldestRequest = time.Since(oldest.received).Seconds()
	}
	s.HasBacklogWithoutCapacity = s.ApproximateBacklogSize > 0 && capacity == 0
	return s
}
