package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// stream sends an answer in pieces.
func stream(w http.ResponseWriter, r *http.Request, verb, rest string) {
	out := http.NewResponseController(w)
	send := func(format string, args ...any) {
		fmt.Fprintf(w, format, args...)
		if out.Flush() != nil {
			panic(http.ErrAbortHandler) // the caller is gone
		}
	}
	switch verb {
	case "pieces":
		count, gate, _ := strings.Cut(rest, " ")
		n, _ := strconv.Atoi(count)
		for i := range n {
			for !exists(gate+strconv.Itoa(i)) && r.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			send("piece %d\n", i)
		}
	case "broken":
		n, _ := strconv.Atoi(rest)
		for i := range n {
			send("piece %d\n", i)
		}
		panic(http.ErrAbortHandler) // ends the connection
	case "hang":
		send("begun\n")
		<-r.Context().Done()
		note(rest, 1)
	case "flood":
		piece := make([]byte, 64<<10)
		for sent := 0; sent < 256<<20; {
			n, err := w.Write(piece)
			if err != nil {
				return
			}
			sent += n
			note(rest, sent)
		}
	}
}

// note keeps a number in a file.
func note(path string, n int) {
	if os.WriteFile(path+".new", strconv.AppendInt(nil, int64(n), 10), 0o600) == nil {
		_ = os.Rename(path+".new", path)
	}
}

// chat answers as OpenAI does. A message that begins with "refuse" is refused.
func chat(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Model    string
		Stream   bool
		Messages []struct{ Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Messages) == 0 || strings.HasPrefix(in.Messages[0].Content, "refuse") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"message":"refused","type":"BadRequestError","code":400}}`)
		return
	}
	text := in.Messages[len(in.Messages)-1].Content
	say := func(object, member string, content any, finish string) string {
		said, _ := json.Marshal(map[string]any{ // texts and numbers always encode
			"id": "1", "object": object, "created": 1, "model": in.Model,
			"choices": []any{map[string]any{"index": 0, member: content, "finish_reason": finish}},
		})
		return string(said)
	}
	if !in.Stream {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, say("chat.completion", "message", map[string]string{"role": "assistant", "content": text}, "stop"))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	for _, word := range strings.SplitAfter(text, " ") {
		if strings.HasPrefix(word, "break") {
			panic(http.ErrAbortHandler) // ends the connection
		}
		fmt.Fprintf(w, "data: %s\n\n", say("chat.completion.chunk", "delta", map[string]string{"content": word}, ""))
		if out.Flush() != nil {
			return
		}
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}
