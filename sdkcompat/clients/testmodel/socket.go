package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// converse takes a bidirectional stream and answers each frame with a text frame
// that tells its opcode, FIN, length and beginning. A text frame can ask for more:
//
//	close CODE REASON  sends a Close frame
//	crash              exits
//	pieces N           answers in N fragments of one message
//	flood PATH         sends frames and keeps in PATH how many bytes it could
//	wait PATH          reads nothing until PATH exists
//	target             answers the target of the request
func converse(w http.ResponseWriter, r *http.Request) {
	conn, both, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return // the answer says why
	}
	defer conn.Close()
	for {
		h, err := ws.ReadHeader(both)
		if err != nil {
			return
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(both, payload); err != nil {
			return
		}
		ws.Cipher(payload, h.Mask, 0)
		if h.OpCode == ws.OpClose {
			code, _ := ws.ParseCloseFrameData(payload)
			fmt.Println("socket closed with", code)
			_ = ws.WriteFrame(conn, ws.NewCloseFrame(payload[:min(2, len(payload))])) // nobody may be there
			return
		}
		if err := say(conn, r, h, payload); err != nil {
			return
		}
	}
}

// say answers one frame.
func say(conn net.Conn, r *http.Request, h ws.Header, payload []byte) error {
	text := func(format string, args ...any) error {
		return ws.WriteFrame(conn, ws.NewTextFrame(fmt.Appendf(nil, format, args...)))
	}
	verb, rest, _ := strings.Cut(string(payload), " ")
	if h.OpCode != ws.OpText {
		verb = ""
	}
	switch verb {
	case "close":
		code, reason, _ := strings.Cut(rest, " ")
		n, _ := strconv.Atoi(code)
		_ = ws.WriteFrame(conn, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(n), reason)))
		return io.EOF
	case "crash":
		os.Exit(3)
	case "pieces":
		n, _ := strconv.Atoi(rest)
		for i := range n {
			op := ws.OpContinuation
			if i == 0 {
				op = ws.OpText
			}
			if err := ws.WriteFrame(conn, ws.NewFrame(op, i == n-1, fmt.Appendf(nil, "piece %d", i))); err != nil {
				return err
			}
		}
		return nil
	case "flood":
		piece := make([]byte, 64<<10)
		for sent := 0; sent < 256<<20; sent += len(piece) {
			if err := ws.WriteFrame(conn, ws.NewBinaryFrame(piece)); err != nil {
				return err
			}
			note(rest, sent)
		}
		return nil
	case "wait":
		for !exists(rest) {
			time.Sleep(time.Millisecond)
		}
		return text("waited")
	case "target":
		return text("%s %s", r.Method, r.RequestURI)
	}
	return text("opcode %x fin %v length %d %.20s", byte(h.OpCode), h.Fin, h.Length, payload)
}
