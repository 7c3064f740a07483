package async

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/store"
)

// Subscriptions say which URL gets a topic's notifications.
type Subscriptions struct {
	rules []subscription // the most particular first
}

type subscription struct{ pattern, url string }

// NewSubscriptions takes URLs by the topic's ARN, in which * stands for any text
// and ? for one character. The longest pattern that matches counts.
func NewSubscriptions(urls map[string]string) (*Subscriptions, error) {
	s := new(Subscriptions)
	for pattern, target := range urls {
		if _, err := path.Match(pattern, ""); err != nil || strings.ContainsAny(pattern, `[]\`) || pattern == "" {
			return nil, fmt.Errorf("%q is no topic's ARN", pattern)
		}
		if u, err := url.Parse(target); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("%s: %q is not an http or https URL", pattern, target)
		}
		s.rules = append(s.rules, subscription{pattern, target})
	}
	slices.SortFunc(s.rules, func(a, b subscription) int {
		if d := len(b.pattern) - len(a.pattern); d != 0 {
			return d
		}
		return strings.Compare(a.pattern, b.pattern)
	})
	return s, nil
}

// url is empty for a topic that nobody has subscribed to.
func (s *Subscriptions) url(topic string) string {
	if s == nil {
		return ""
	}
	for _, r := range s.rules {
		if ok, _ := path.Match(r.pattern, topic); ok { // an ARN of SNS has no slash
			return r.url
		}
	}
	return ""
}

const (
	// keptDeliveries is how many notifications are listed.
	keptDeliveries = 100
	// maxPending is how many may wait for their delivery.
	maxPending = 10_000
	// maxPosts is how many are under way at once.
	maxPosts = 16
	// deliveryTimeout is SNS's own for an answer (docs of SNS:
	// sns-message-delivery-retries).
	deliveryTimeout = 15 * time.Second
	// A delivery is tried this often, with waits from firstWait on that double.
	maxTries  = 6
	firstWait = time.Second
)

// What has become of a notification.
const (
	pending      = "pending"
	delivered    = "delivered"
	undelivered  = "failed"
	unsubscribed = "no subscription" // nobody has configured a URL for the topic
)

// Delivery is a notification as GET /_sagelocal/notifications shows it.
type Delivery struct {
	MessageID string          `json:"message_id"`
	TopicARN  string          `json:"topic_arn"`
	Message   json.RawMessage `json:"message"`
	Timestamp time.Time       `json:"timestamp"`
	URL       string          `json:"url,omitempty"`
	State     string          `json:"state"`
	Tries     int             `json:"tries"`
	Error     string          `json:"error,omitempty"`

	account string
}

// notifier delivers notifications.
type notifier struct {
	queue  *Queue
	client *http.Client
	posts  chan struct{}

	mu     sync.Mutex
	recent []*Delivery // the newest last
	count  int         // pending
}

func newNotifier(q *Queue) *notifier {
	return &notifier{
		queue: q, posts: make(chan struct{}, maxPosts),
		client: &http.Client{
			Timeout: deliveryTimeout,
			// The operator's URL and no other.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		},
	}
}

// send lists a notification, and delivers it when its topic has a URL; it is then
// true, and the record that holds the notification is the notifier's to change.
func (n *notifier) send(at place, l *lane, what *notification) bool {
	return n.begin(at, what, func() {
		l.mu.Lock()
		l.counts.NotificationFailures++
		l.mu.Unlock()
	})
}

// resume goes on with what the last run has not delivered.
func (n *notifier) resume(all []place) {
	if len(all) == 0 {
		return
	}
	n.queue.work.Go(func() {
		for _, at := range all {
			var what *notification
			err := n.queue.DB.View(func(tx *store.Tx) error {
				r, err := records.Get(tx, at.scope, at.id)
				if err == nil {
					what = r.Notification
				}
				return err
			})
			if err == nil && what != nil && !n.begin(at, what, func() {}) {
				n.settled(at)
			}
		}
	})
}

func (n *notifier) begin(at place, what *notification, failing func()) bool {
	d := &Delivery{
		MessageID: what.MessageID, TopicARN: what.Topic, Message: json.RawMessage(what.Message), Timestamp: what.Timestamp,
		URL: n.queue.Subscriptions.url(what.Topic), State: unsubscribed, account: at.scope.Account,
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.recent = append(n.recent, d); len(n.recent) > keptDeliveries {
		n.recent = slices.Delete(n.recent, 0, 1)
	}
	if d.URL == "" {
		return false
	}
	d.State = pending
	full := n.count >= maxPending
	n.count++
	n.queue.work.Go(func() {
		if full {
			n.note(d, undelivered, errors.New("too many notifications wait"))
			failing()
		} else if !n.deliver(d, what, failing) {
			return // the next run goes on
		}
		n.settled(at)
		n.mu.Lock()
		n.count--
		n.mu.Unlock()
	})
	return true
}

// deliver posts a notification until it is taken or has been tried often enough.
// It is false when the daemon stops before.
func (n *notifier) deliver(d *Delivery, what *notification, failing func()) (over bool) {
	ctx := n.queue.dispatch
	for wait := firstWait; ; wait *= 2 {
		err := n.post(ctx, d.URL, what)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			n.note(d, delivered, nil)
			return true
		}
		if tries := n.note(d, pending, err); tries == maxTries {
			n.queue.Logger.Warn("a notification could not be delivered", "topic", what.Topic, "error", err)
			n.state(d, undelivered)
			failing()
			return true
		}
		if !dataplane.Sleep(ctx, n.queue.scaled(wait)) {
			return false
		}
	}
}

// note takes down a try.
func (n *notifier) note(d *Delivery, state string, err error) (tries int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d.State, d.Error = state, ""
	if err != nil {
		d.Error = err.Error()
	}
	d.Tries++
	return d.Tries
}

func (n *notifier) state(d *Delivery, state string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d.State = state
}

// envelope is the body of SNS's request (docs of SNS: sns-message-and-json-formats).
// Nothing is signed.
type envelope struct {
	Type             string
	MessageID        string `json:"MessageId"`
	TopicARN         string `json:"TopicArn"`
	Message          string
	Timestamp        string
	SignatureVersion string
	Signature        string
	SigningCertURL   string
	UnsubscribeURL   string
}

func (n *notifier) post(ctx context.Context, to string, what *notification) error {
	select {
	case n.posts <- struct{}{}:
		defer func() { <-n.posts }()
	case <-ctx.Done():
		return ctx.Err()
	}
	text, err := json.Marshal(envelope{
		Type: "Notification", MessageID: what.MessageID, TopicARN: what.Topic, Message: what.Message,
		Timestamp: what.Timestamp.UTC().Format(timestampFormat), SignatureVersion: "1",
	})
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(text))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"X-Amz-Sns-Message-Type": "Notification", "X-Amz-Sns-Message-Id": what.MessageID, "X-Amz-Sns-Topic-Arn": what.Topic,
		"X-Amz-Sns-Subscription-Arn": what.Topic + ":" + what.MessageID,
		"Content-Type":               "text/plain; charset=UTF-8", "User-Agent": "Amazon Simple Notification Service Agent",
	} {
		req.Header.Set(name, value)
	}
	res, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // what a subscriber says does not matter
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the subscriber answers %d", res.StatusCode)
	}
	return nil
}

// settled takes the notification out of its record, which may be pruned then.
// Should that fail, the next run delivers it again.
func (n *notifier) settled(at place) {
	q := n.queue
	err := q.DB.UpdateSoon(func(tx *store.Tx) error {
		r, err := records.Get(tx, at.scope, at.id)
		if err != nil {
			return err
		}
		r.Notification = nil
		return records.Put(tx, at.scope, at.id, r)
	})
	switch {
	case err == nil:
		q.keep(at)
	case !errors.Is(err, store.ErrNotFound):
		q.Logger.Warn("cannot write that a notification was delivered", "error", err)
	}
}

// forget drops the list of an account, or of all when it is empty.
func (n *notifier) forget(account string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.recent = slices.DeleteFunc(n.recent, func(d *Delivery) bool { return account == "" || d.account == account })
}

// Notifications lists the last notifications of an account, or of all when it is
// empty, the newest first.
func (q *Queue) Notifications(account string) []Delivery {
	n := q.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]Delivery, 0, len(n.recent))
	for _, d := range slices.Backward(n.recent) {
		if account == "" || d.account == account {
			all = append(all, *d)
		}
	}
	return all
}
