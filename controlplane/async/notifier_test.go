package async

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/store"
)

const topic = "arn:aws:sns:us-east-1:123456789012:done"

func openQueue(t *testing.T, db *store.DB, urls map[string]string) *Queue {
	t.Helper()
	subscriptions, err := NewSubscriptions(urls)
	if err != nil {
		t.Fatal(err)
	}
	q := New(Options{DB: db, Fleet: dataplane.NewFleet(), Subscriptions: subscriptions, TimeScale: 1000})
	if err := q.Start(func(dataplane.Key) string { return "" }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Stop)
	return q
}

func openDB(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(store.Options{InMemory: true, Tables: Tables()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Check(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return db
}

// ended stores a request that has ended and whose topic does not know it.
func ended(t *testing.T, db *store.DB) (place, *notification) {
	t.Helper()
	at := place{store.Scope{Account: "123456789012", Region: "us-east-1"}, "1"}
	n := &notification{MessageID: "m-1", Topic: topic, Message: `{"invocationStatus":"Completed"}`, Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)}
	err := db.Update(func(tx *store.Tx) error {
		return records.Put(tx, at.scope, at.id, &record{Request: "r", Endpoint: "e", State: done, Notification: n})
	})
	if err != nil {
		t.Fatal(err)
	}
	return at, n
}

func storedNotification(t *testing.T, db *store.DB, at place) (n *notification) {
	t.Helper()
	err := db.View(func(tx *store.Tx) error {
		r, err := records.Get(tx, at.scope, at.id)
		if err == nil {
			n = r.Notification
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// settle waits until the only notification has the state.
func settle(t *testing.T, q *Queue, state string) Delivery {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(30 * time.Second)
	for {
		if all := q.Notifications(""); len(all) == 1 && all[0].State == state {
			return all[0]
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("%+v, want %s", q.Notifications(""), state)
		}
	}
}

// What the last run has not delivered the next one does, in SNS's shape (docs of
// SNS: sns-message-and-json-formats).
func TestANotificationIsDeliveredAsBySNSAndOutlivesTheDaemon(t *testing.T) {
	type got struct {
		header http.Header
		body   string
	}
	arrived := make(chan got, 8)
	var refusals atomic.Int32
	refusals.Store(2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refusals.Add(-1) >= 0 {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		arrived <- got{r.Header, string(body)}
	}))
	defer server.Close()
	db := openDB(t)
	at, _ := ended(t, db)
	q := openQueue(t, db, map[string]string{"arn:aws:sns:*:done": server.URL})
	g := <-arrived
	for name, want := range map[string]string{
		"X-Amz-Sns-Message-Type": "Notification", "X-Amz-Sns-Message-Id": "m-1", "X-Amz-Sns-Topic-Arn": topic,
		"Content-Type": "text/plain; charset=UTF-8", "User-Agent": "Amazon Simple Notification Service Agent",
	} {
		if v := g.header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	want := `{"Type":"Notification","MessageId":"m-1","TopicArn":"` + topic + `","Message":"{\"invocationStatus\":\"Completed\"}",` +
		`"Timestamp":"2026-01-02T03:04:05.006Z","SignatureVersion":"1","Signature":"","SigningCertURL":"","UnsubscribeURL":""}`
	if g.body != want {
		t.Errorf("got  %s\nwant %s", g.body, want)
	}
	if d := settle(t, q, delivered); d.Tries != 3 || d.Error != "" || d.URL != server.URL {
		t.Errorf("%+v", d)
	}
	q.Stop()
	if n := storedNotification(t, db, at); n != nil {
		t.Errorf("the record still has %+v", n)
	}
	if again := openQueue(t, db, map[string]string{topic: server.URL}); len(again.Notifications("")) != 0 {
		t.Error("the next run delivers it again")
	}
}

func TestADeadSubscriberIsGivenUp(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer server.Close()
	db := openDB(t)
	q := openQueue(t, db, map[string]string{topic: server.URL})
	at, n := ended(t, db) // the queue has not found it
	l := newLane(q, dataplane.Key{}, "uid", "e")
	if !q.notifier.send(at, l, n) {
		t.Fatal("there is a subscription, and the notification is not delivered")
	}
	if d := settle(t, q, undelivered); d.Tries != maxTries || d.Error != "the subscriber answers 502" {
		t.Errorf("%+v", d)
	}
	q.Stop()
	if l.status().NotificationFailures != 1 {
		t.Errorf("%+v", l.status())
	}
	if n := storedNotification(t, db, at); n != nil {
		t.Errorf("the record still has %+v", n)
	}
}

func TestAStopLeavesWhatIsNotDeliveredToTheNextRun(t *testing.T) {
	var asked sync.Once
	begun, hold := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Do(func() { close(begun) })
		<-hold
	}))
	defer server.Close()
	defer close(hold)
	db := openDB(t)
	at, _ := ended(t, db)
	q := openQueue(t, db, map[string]string{topic: server.URL})
	<-begun
	q.Stop()
	if n := storedNotification(t, db, at); n == nil {
		t.Error("the notification is lost")
	}
}

func TestSubscriptionsTakeTheMostParticularPattern(t *testing.T) {
	s, err := NewSubscriptions(map[string]string{"*": "http://127.0.0.1:1", "arn:aws:sns:*:done": "http://127.0.0.1:2", topic: "http://127.0.0.1:3"})
	if err != nil {
		t.Fatal(err)
	}
	for arn, want := range map[string]string{
		topic: "http://127.0.0.1:3", "arn:aws:sns:eu-west-1:123456789012:done": "http://127.0.0.1:2", "arn:aws:sns:eu-west-1:123456789012:bad": "http://127.0.0.1:1",
	} {
		if got := s.url(arn); got != want {
			t.Errorf("%s goes to %s, want %s", arn, got, want)
		}
	}
	for pattern, target := range map[string]string{"[": "http://127.0.0.1", "": "http://127.0.0.1", "a": "ftp://127.0.0.1", "b": "127.0.0.1:80", `c\`: "http://127.0.0.1"} {
		if _, err := NewSubscriptions(map[string]string{pattern: target}); err == nil {
			t.Errorf("%q: %q is accepted", pattern, target)
		}
	}
}

func TestResponsesStandInNotificationsUpTo128KB(t *testing.T) {
	r := &record{Endpoint: "e", SuccessTopic: topic, IncludeInSuccess: true, Status: completed}
	for _, tc := range []struct{ said, want string }{
		{"text", `{"content":"text","encoding":"UTF-8"}`},
		{"\xff\x00", `{"content":"/wA=","encoding":"BASE64"}`},
		{strings.Repeat("x", maxIncluded+1), ""},
		{"", ""},
	} {
		n, err := notify(r, "us-east-1", "m", &outcome{said: []byte(tc.said)})
		if err != nil {
			t.Fatal(err)
		}
		var m struct{ ResponseBody json.RawMessage }
		if err := json.Unmarshal([]byte(n.Message), &m); err != nil {
			t.Fatal(err)
		}
		if string(m.ResponseBody) != tc.want {
			t.Errorf("%.20q: %s, want %s", tc.said, m.ResponseBody, tc.want)
		}
	}
	if n, err := notify(r, "us-east-1", "m", &outcome{failed: true}); n != nil || err != nil {
		t.Errorf("without ErrorTopic: %+v, %v", n, err)
	}
}
