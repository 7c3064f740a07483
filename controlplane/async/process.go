package async

import (
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// process runs a request that there is room for.
func (l *lane) process(t *ticket) {
	q := l.queue
	released := sync.OnceFunc(l.released)
	defer released()
	r, body, err := q.begin(t)
	if errors.Is(err, store.ErrNotFound) {
		l.over(t, nil) // it was deleted by a reset
		return
	}
	if err != nil {
		q.Logger.Error("cannot begin an asynchronous request", "endpoint", l.endpoint, "error", err)
		l.later(t)
		return
	}
	if t.again {
		o, err := q.previous(r)
		switch {
		case err != nil:
			q.Logger.Warn("cannot tell whether an asynchronous request has ended before", "endpoint", l.endpoint, "request", r.Request, "error", err)
			l.later(t)
			return
		case o != nil:
			l.finish(t, r, o, counted(o))
			return
		}
		t.again = false
	}
	p := inline(body)
	if r.Input != "" {
		if p, err = q.get(q.working, r.Input); err != nil {
			if q.working.Err() != nil {
				return
			}
			released()
			reason := sdkcompat.AsyncInputFailed.Sentence(r.Input, err)
			l.write(t, r, &outcome{failed: true, reason: reason, object: []byte(reason)}, func(c *Counts) { c.RequestDownloadFailures++ })
			return
		}
	}
	o, err := l.invoke(r, p.bytes)
	q.letGo(p)
	released()
	switch {
	case q.dispatch.Err() != nil && o == nil:
		// The next run finds the record as it is.
	case errors.Is(err, dataplane.ErrInterrupted):
		l.requeue(t, true)
	case o == nil:
		l.requeue(t, false)
	default:
		l.write(t, r, o, counted(o))
	}
}

func (q *Queue) letGo(p *payload) {
	if err := p.close(); err != nil {
		q.Logger.Warn("cannot let go of a payload", "error", err)
	}
}

func counted(o *outcome) func(*Counts) {
	return func(c *Counts) {
		if o.failed {
			c.InvocationFailures++
		} else {
			c.InvocationsProcessed++
		}
	}
}

// begin marks a request as running and returns its body when it has one of its own.
func (q *Queue) begin(t *ticket) (r *record, body []byte, err error) {
	err = q.DB.Update(func(tx *store.Tx) error {
		if r, err = records.Get(tx, t.scope, t.id); err != nil {
			return err
		}
		if r.Input == "" {
			b, err := bodies.Get(tx, t.scope, t.id)
			if err != nil {
				return err
			}
			body = b.bytes
		}
		r.State = running
		r.Attempt++
		return records.Put(tx, t.scope, t.id, r)
	})
	return r, body, err
}

// previous is how an earlier run of the request ended, as far as its objects show
// it; nil when it did not.
func (q *Queue) previous(r *record) (*outcome, error) {
	o, err := q.written(q.working, r, r.Output)
	if o != nil || err != nil {
		return o, err
	}
	o, err = q.written(q.working, r, r.Failure)
	if o != nil {
		o.failed, o.reason = true, string(o.said[:min(len(o.said), 1024)])
	}
	return o, err
}

// invoke lets an instance answer. There is no outcome when none could.
func (l *lane) invoke(r *record, content []byte) (*outcome, error) {
	q := l.queue
	e := q.Fleet.Lookup(l.key)
	if e == nil {
		return nil, dataplane.ErrNoEndpoint
	}
	to := e.Snapshot().Async
	if to == nil || to.UID != l.uid {
		return nil, dataplane.ErrNoEndpoint
	}
	req := &dataplane.Request{
		Operation: "InvokeEndpointAsync", ContentType: r.ContentType, Accept: r.Accept, CustomAttributes: r.CustomAttributes,
		InferenceID: r.InferenceID, Body: content, Timeout: r.Timeout, PerInstance: to.PerInstance,
	}
	ans := &answer{dir: q.Dir}
	defer ans.drop()
	var route dataplane.Route
	err := q.Fleet.InvokeStream(q.working, l.key, req, &route, ans)
	container := route.Container
	if container == "" || container == "primary" {
		container = "model" // so AWS calls it here (seen in notifications)
	}
	var said *payload
	if err == nil {
		said, err = ans.payload()
	}
	switch {
	case err == nil && ans.accepted():
		return &outcome{contentType: ans.head.ContentType, said: said.bytes, object: said.bytes, content: said}, nil
	case err == nil:
		return l.refused(ans.head.StatusCode, container, string(said.bytes), &ans.head), nil
	case errors.Is(err, dataplane.ErrInterrupted), q.dispatch.Err() != nil:
		return nil, err
	case errors.Is(err, dataplane.ErrTimeout):
		return l.refused(0, container, sdkcompat.InvocationTimedOut.Sentence(container), nil), nil
	case errors.Is(err, dataplane.ErrTooLarge):
		return l.refused(0, container, sdkcompat.AnswerTooLarge.Sentence(container, ans.largest(err)), nil), nil
	case errors.Is(err, dataplane.ErrBroken):
		return l.refused(0, container, sdkcompat.AnswerBroken.Sentence(container), nil), nil
	case errors.Is(err, dataplane.ErrBusy), errors.Is(err, dataplane.ErrNoInstance), errors.Is(err, dataplane.ErrNoEndpoint),
		errors.Is(err, dataplane.ErrNotAsync), errors.Is(err, dataplane.ErrNoWeight):
		return nil, err
	case errors.Is(err, errSpool):
		reason := sdkcompat.AsyncOutputFailed.Sentence(r.Output, err)
		return &outcome{failed: true, reason: reason, object: []byte(reason)}, nil
	}
	reason := sdkcompat.AsyncInvalid.Sentence(err)
	return &outcome{failed: true, reason: reason, object: []byte(reason)}, nil
}

// refused is the outcome of an invocation that the container did not answer with
// success. Status 0: it gave none.
func (l *lane) refused(status int, container, said string, ans *dataplane.Answer) *outcome {
	class, kind := "ServerError", "server"
	if status/100 == 4 {
		class, kind = "ClientError", "client"
	}
	group := "/aws/sagemaker/Endpoints/" + l.endpoint
	o := &outcome{
		failed: true, reason: sdkcompat.AsyncModelFailed.Sentence(class, kind, status, container),
		object: []byte(sdkcompat.ModelSaid.Sentence(kind, status, container, said, l.key.Region, group, l.key.Account)),
	}
	if ans != nil {
		o.said, o.contentType = []byte(said), ans.ContentType
	}
	return o
}

// write puts the request's object where it belongs and then finishes it.
func (l *lane) write(t *ticket, r *record, o *outcome, count func(*Counts)) {
	q := l.queue
	if o.content != nil {
		defer q.letGo(o.content)
	}
	if !o.failed && r.Output != "" {
		if err := q.put(q.working, r, r.Output, o.contentType, o.object); err != nil {
			if q.working.Err() != nil {
				return
			}
			reason := sdkcompat.AsyncOutputFailed.Sentence(r.Output, err)
			o = &outcome{failed: true, reason: reason, object: []byte(reason)}
			count = func(c *Counts) { c.ResponseUploadFailures++ }
		}
	}
	if o.failed && r.Failure != "" {
		if err := q.put(q.working, r, r.Failure, "text/plain", o.object); err != nil {
			if q.working.Err() != nil {
				return
			}
			q.Logger.Warn("cannot write a failure object", "endpoint", l.endpoint, "location", r.Failure, "error", err)
		}
	}
	l.finish(t, r, o, count)
}

const (
	// Waits between tries to write that a request has ended, while the disk is full.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
	// laterRetry is the wait before a request that cannot begin may be tried again.
	laterRetry = time.Second
)

// finish marks a request as done.
func (l *lane) finish(t *ticket, r *record, o *outcome, count func(*Counts)) {
	q := l.queue
	oldest, prune := q.oldest()
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		n, gone, err := q.end(t, r, o, oldest, prune)
		switch {
		case err == nil:
			if !gone {
				q.ended(t.place, l, n)
			}
			l.over(t, count)
			return
		case errors.Is(err, store.ErrClosed):
			return
		}
		q.Logger.Error("cannot write that an asynchronous request has ended", "endpoint", l.endpoint, "request", r.Request, "error", err)
		if !dataplane.Sleep(q.working, wait) {
			return
		}
	}
}

// end is finish's transaction. gone tells that there is no such record any more.
func (q *Queue) end(t *ticket, seen *record, o *outcome, oldest place, prune bool) (n *notification, gone bool, err error) {
	err = q.DB.Update(func(tx *store.Tx) error {
		r, err := records.Get(tx, t.scope, t.id)
		if errors.Is(err, store.ErrNotFound) {
			gone = true
			return nil
		}
		if err != nil {
			return err
		}
		r.State, r.Finished, r.Status, r.Reason = done, tx.Now, completed, o.reason
		if o.failed {
			r.Status = failed
		}
		if n, err = notify(r, t.scope.Region, uuid.NewString(), o); err != nil {
			return err
		}
		if n != nil && q.Subscriptions.url(n.Topic) != "" {
			r.Notification = n
		}
		if prune {
			if err := records.Delete(tx, oldest.scope, oldest.id); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		if seen.Input == "" {
			if err := bodies.Delete(tx, t.scope, t.id); err != nil {
				return err
			}
		}
		return records.Put(tx, t.scope, t.id, r)
	})
	return n, gone, err
}

// oldest takes the oldest of the finished records out of the list, if there are
// as many as are kept.
func (q *Queue) oldest() (place, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.finished) < keptDone {
		return place{}, false
	}
	at := q.finished[0]
	q.finished = q.finished[1:]
	return at, true
}

// ended lists a request that is done, and lets its topic know.
func (q *Queue) ended(at place, l *lane, n *notification) {
	if n != nil && q.notifier.send(at, l, n) {
		return // listed when that is over
	}
	q.keep(at)
}

func (q *Queue) keep(at place) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finished = append(q.finished, at)
}

// endUnrun ends a request without a run.
func (l *lane) endUnrun(t *ticket, reason string, count func(*Counts)) {
	l.mu.Lock()
	forgotten := l.forgotten
	l.mu.Unlock()
	if forgotten {
		l.over(t, nil)
		return
	}
	var r *record
	err := l.queue.DB.View(func(tx *store.Tx) (err error) {
		r, err = records.Get(tx, t.scope, t.id)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		l.over(t, nil)
	case err != nil:
		l.queue.Logger.Error("cannot read an asynchronous request", "endpoint", l.endpoint, "error", err)
		l.later(t)
	default:
		l.write(t, r, &outcome{failed: true, reason: reason, object: []byte(reason)}, count)
	}
}

// later puts a request back after a moment: the database or S3 has failed.
func (l *lane) later(t *ticket) {
	if dataplane.Sleep(l.queue.dispatch, laterRetry) {
		l.requeue(t, false)
	}
}
