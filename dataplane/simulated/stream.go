package simulated

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Stream answers one request; see dataplane.Worker. Tokens are sent as they
// come; any other answer is one piece. A reader who is slow does not hold the
// model up: it goes on, and gives its slot to the next request when it is done.
func (w *worker) Stream(ctx context.Context, req *dataplane.Request, to dataplane.Sink) error {
	n, err := w.begin(ctx)
	if err != nil {
		return err
	}
	said := w.speech(n, req)
	if said == nil || !said.inPieces() {
		var ans dataplane.Answer
		if err := w.respond(ctx, n, said, req, &ans); err != nil {
			return err
		}
		return ans.PassOn(to)
	}
	j, v, err := w.arrive(req.Timeout, said)
	if err != nil {
		return w.errorf(err)
	}
	if v != answered {
		var ans dataplane.Answer
		v.explain(&ans)
		return ans.PassOn(to)
	}
	t := telling{speech: said, to: to}
	if j == nil {
		return w.tell(&t, said.count)
	}
	return w.follow(ctx, j, &t, req.Timeout)
}

// telling is a speech on its way to a sink.
type telling struct {
	*speech
	to    dataplane.Sink
	sent  int
	piece []byte
}

// tell sends the tokens up to so many, each as a piece.
func (w *worker) tell(t *telling, until int) error {
	if t.sent == 0 {
		if err := t.to.Begin(&dataplane.Answer{StatusCode: 200, ContentType: t.contentType()}); err != nil {
			return err
		}
	}
	for ; t.sent < until; t.sent++ {
		if t.sent == t.breakAt {
			return w.errorf(dataplane.ErrBroken)
		}
		t.piece = t.appendToken(t.piece[:0], t.sent)
		if _, err := t.to.Write(t.piece); err != nil {
			return err
		}
	}
	if t.sent < t.count {
		return t.to.Flush()
	}
	if t.piece = t.appendEnd(t.piece[:0]); len(t.piece) == 0 {
		return nil
	}
	_, err := t.to.Write(t.piece)
	return err
}

// follow sends a job's tokens when they are made.
func (w *worker) follow(ctx context.Context, j *job, t *telling, timeout time.Duration) error {
	var expired <-chan time.Time
	if timeout > 0 {
		expired = j.timer.C
	}
	for {
		select {
		case <-j.more:
			if err := w.tell(t, int(j.made.Load())); err != nil {
				_, _ = w.depart(j, err) // the error is known
				return err
			}
		case <-j.done:
			v, err := w.depart(j, nil)
			switch {
			case err != nil:
				return w.errorf(err)
			case v != answered && t.sent == 0:
				var ans dataplane.Answer
				v.explain(&ans)
				return ans.PassOn(t.to)
			}
			return w.tell(t, t.count)
		case <-ctx.Done():
			return w.leave(j, t, ctx.Err())
		case <-expired:
			return w.leave(j, t, dataplane.ErrTimeout)
		}
	}
}

// leave gives a job up, unless it has ended by then.
func (w *worker) leave(j *job, t *telling, reason error) error {
	if _, err := w.depart(j, reason); err != nil {
		return w.errorf(err)
	}
	return w.tell(t, t.count)
}

// tokensOf gives a job its tokens after the first.
func (w *worker) tokensOf(j *job, s *speech) {
	tokens := w.cfg.Answer.Tokens
	if tokens == nil || tokens.PerSecond == 0 {
		return
	}
	pauses := rand.New(rand.NewPCG(s.random.Uint64(), s.random.Uint64()))
	j.left = s.count - 1
	j.pause = func() float64 { return tokens.pause(pauses) / w.speed }
}
