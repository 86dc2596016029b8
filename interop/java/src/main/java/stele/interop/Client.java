// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package stele.interop;

import com.alibaba.fastjson2.JSON;
import com.alibaba.fastjson2.JSONArray;
import com.alibaba.fastjson2.JSONObject;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.exception.OffsetNotFoundException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientIDSetter;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.exception.RemotingException;
import org.apache.rocketmq.remoting.protocol.header.QueryConsumerOffsetRequestHeader;

/**
 * Sends and receives by RocketMQ's own client, for tests of a whole broker. It
 * takes requests as Main does, one after the other, each with the address of a
 * name server and the group of the producer or consumer, which lives as long as
 * the request.
 */
public final class Client {
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), false,
        StandardCharsets.UTF_8);
    /** How long things may take that take moments on a machine that does nothing else. */
    private static final int PATIENCE_MS = 120_000;
    private static final int PAUSE_MS = 20;
    private static final int API_TIMEOUT_MS = 30_000;

    private Client() {
    }

    public static void main(String[] args) throws Exception {
        System.setOut(System.err);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JSONObject request = JSON.parseObject(line);
            JSONObject reply = new JSONObject();
            try {
                run(request, reply);
            } catch (Throwable e) {
                StringWriter trace = new StringWriter();
                e.printStackTrace(new PrintWriter(trace));
                reply.put("error", trace.toString());
            }
            reply.put("id", request.getLongValue("id"));
            OUT.println(reply.toJSONString());
            OUT.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static void run(JSONObject request, JSONObject reply) throws Exception {
        String op = request.getString("op");
        switch (op) {
            case "send":
                reply.put("keys", send(request));
                break;
            case "transact":
                reply.put("keys", transact(request));
                break;
            case "pull":
                reply.put("messages", pull(request));
                break;
            case "push":
                reply.put("messages", push(request));
                break;
            default:
                throw new IllegalArgumentException("no such op: " + op);
        }
    }

    private static Message message(JSONObject spec) {
        Message m = new Message(spec.getString("topic"), spec.getString("tags"), spec.getString("keys"),
            Base64.getDecoder().decode(spec.getString("body")));
        if (spec.getIntValue("delayLevel") > 0) {
            m.setDelayTimeLevel(spec.getIntValue("delayLevel"));
        }
        return m;
    }

    /** Something that fails while RocketMQ is not ready for it. */
    private interface Attempt<T> {
        T make() throws Exception;
    }

    /**
     * Makes an attempt until the name server and the broker are ready for it. Other
     * failures than those are the caller's at once, and these are in the end. Time is
     * counted in pauses, so that a process that was stopped has not lost its patience.
     */
    private static <T> T patiently(Attempt<T> attempt) throws Exception {
        for (int pauses = 0; ; pauses++) {
            try {
                return attempt.make();
            } catch (Exception e) {
                if (!notReady(e) || pauses >= PATIENCE_MS / PAUSE_MS) {
                    throw e;
                }
                pause();
            }
        }
    }

    /** Says that a request did not come through, or that nobody knows yet what was asked for. */
    private static boolean notReady(Throwable e) {
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            if (cause instanceof RemotingException || cause instanceof NotYet
                || cause instanceof OffsetNotFoundException) {
                return true;
            }
        }
        return false;
    }

    /** What is asked for is not there yet. */
    private static final class NotYet extends Exception {
        private static final long serialVersionUID = 1;

        NotYet(String what, Throwable cause) {
            super(what, cause);
        }
    }

    private static void pause() throws InterruptedException {
        synchronized (Client.class) {
            Client.class.wait(PAUSE_MS);
        }
    }

    /** What all clients have in common. */
    private static void configure(ClientConfig client, JSONObject request) {
        client.setNamesrvAddr(request.getString("namesrv"));
        client.setMqClientApiTimeout(API_TIMEOUT_MS);
        client.setPollNameServerInterval(1000); // for consumers of topics that are not known yet
    }

    /** Starts a producer, and waits until the name server knows the broker, which says that it is up before that. */
    private static void start(DefaultMQProducer producer, JSONObject request) throws Exception {
        configure(producer, request);
        producer.setSendMsgTimeout(PATIENCE_MS);
        producer.start();
        try {
            patiently(() -> {
                try {
                    return producer.fetchPublishMessageQueues(producer.getCreateTopicKey());
                } catch (MQClientException e) {
                    throw new NotYet("the name server knows no broker", e);
                }
            });
        } catch (Exception e) {
            producer.shutdown();
            throw e;
        }
    }

    /** Sends messages one by one, or as one batch, and returns their unique keys. */
    private static JSONArray send(JSONObject request) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(request.getString("group"));
        start(producer, request);
        try {
            List<Message> all = new ArrayList<>();
            for (Object spec : request.getJSONArray("messages")) {
                all.add(message((JSONObject) spec));
            }
            JSONArray keys = new JSONArray();
            if (request.getBooleanValue("batch")) {
                producer.send(all);
                for (Message m : all) {
                    keys.add(MessageClientIDSetter.getUniqID(m));
                }
                return keys;
            }
            for (Message m : all) {
                keys.add(producer.send(m).getMsgId());
            }
            return keys;
        } finally {
            producer.shutdown();
        }
    }

    /** Sends each message in a transaction, which is committed or rolled back. */
    private static JSONArray transact(JSONObject request) throws Exception {
        LocalTransactionState end = LocalTransactionState.valueOf(request.getString("end"));
        TransactionMQProducer producer = new TransactionMQProducer(request.getString("group"));
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object arg) {
                return end;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                return end;
            }
        });
        start(producer, request);
        try {
            JSONArray keys = new JSONArray();
            for (Object spec : request.getJSONArray("messages")) {
                keys.add(producer.sendMessageInTransaction(message((JSONObject) spec), null).getMsgId());
            }
            return keys;
        } finally {
            producer.shutdown();
        }
    }

    private static JSONObject row(MessageExt m) {
        JSONObject row = new JSONObject();
        row.put("topic", m.getTopic());
        row.put("queueId", m.getQueueId());
        row.put("queueOffset", m.getQueueOffset());
        row.put("key", m.getMsgId());
        row.put("tags", m.getTags());
        row.put("keys", m.getKeys());
        row.put("body", Base64.getEncoder().encodeToString(m.getBody()));
        return row;
    }

    /** Notes a message, and where its queue goes on behind it. */
    private static void take(MessageExt m, JSONArray messages, Map<MessageQueue, Long> next) {
        messages.add(row(m));
        next.merge(new MessageQueue(m.getTopic(), m.getBrokerName(), m.getQueueId()), m.getQueueOffset() + 1, Math::max);
    }

    /**
     * Waits until the broker has the offsets that a consumer committed: the consumer
     * sends them as it shuts down, and waits for no answer. The next one of its group
     * could be faster, and so could the end of the broker.
     */
    private static void awaitOffsets(JSONObject request, Map<MessageQueue, Long> next) throws Exception {
        DefaultMQProducer observer = new DefaultMQProducer("observers");
        start(observer, request);
        try {
            MQClientInstance client = observer.getDefaultMQProducerImpl().getMqClientFactory();
            for (Map.Entry<MessageQueue, Long> queue : next.entrySet()) {
                QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
                header.setConsumerGroup(request.getString("group"));
                header.setTopic(queue.getKey().getTopic());
                header.setQueueId(queue.getKey().getQueueId());
                header.setBrokerName(queue.getKey().getBrokerName());
                patiently(() -> {
                    client.updateTopicRouteInfoFromNameServer(header.getTopic());
                    String broker = client.findBrokerAddressInPublish(header.getBrokerName());
                    if (broker == null) { // It would be the name server that is asked.
                        throw new NotYet("nobody knows where " + header.getBrokerName() + " is", null);
                    }
                    long offset = client.getMQClientAPIImpl().queryConsumerOffset(broker, header, API_TIMEOUT_MS);
                    if (offset < queue.getValue()) {
                        throw new NotYet(queue + " is committed up to " + offset, null);
                    }
                    return offset;
                });
            }
        } finally {
            observer.shutdown();
        }
    }

    /** Starts a consumer that commits what it is told to; one that failed to start can't be started again. */
    private static DefaultLitePullConsumer startPulling(JSONObject request) throws Exception {
        return patiently(() -> {
            DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(request.getString("group"));
            configure(consumer, request);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.setAutoCommit(false);
            consumer.setPullBatchSize(3);
            for (Object topic : request.getJSONArray("topics")) {
                consumer.subscribe((String) topic, "*");
            }
            consumer.start();
            return consumer;
        });
    }

    /** Consumes a number of messages or a few more, and commits exactly what it consumed. */
    private static JSONArray pull(JSONObject request) throws Exception {
        JSONArray messages = new JSONArray();
        Map<MessageQueue, Long> next = new HashMap<>();
        DefaultLitePullConsumer consumer = startPulling(request);
        try {
            for (int polls = 0; messages.size() < request.getIntValue("count") && polls < PATIENCE_MS / 1000; polls++) {
                for (MessageExt m : consumer.poll(1000)) {
                    take(m, messages, next);
                }
            }
            consumer.commit(next, true);
        } finally {
            consumer.shutdown();
        }
        awaitOffsets(request, next);
        return messages;
    }

    /** Starts a consumer that is given messages; one that failed to start can't be started again. */
    private static DefaultMQPushConsumer startPushing(JSONObject request, BlockingQueue<MessageExt> got) throws Exception {
        return patiently(() -> {
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(request.getString("group"));
            configure(consumer, request);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            for (Object topic : request.getJSONArray("topics")) {
                consumer.subscribe((String) topic, "*");
            }
            consumer.registerMessageListener((MessageListenerConcurrently) (all, context) -> {
                got.addAll(all);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.setAwaitTerminationMillisWhenShutdown(PATIENCE_MS); // what it has given out, it also commits
            consumer.start();
            return consumer;
        });
    }

    /** Consumes until it has a number of messages, and whatever comes with the last one. */
    private static JSONArray push(JSONObject request) throws Exception {
        BlockingQueue<MessageExt> got = new LinkedBlockingQueue<>();
        DefaultMQPushConsumer consumer = startPushing(request, got);
        try {
            for (int pauses = 0; got.size() < request.getIntValue("count") && pauses < PATIENCE_MS / PAUSE_MS; pauses++) {
                pause();
            }
        } finally {
            consumer.shutdown();
        }
        JSONArray messages = new JSONArray();
        Map<MessageQueue, Long> next = new HashMap<>();
        for (MessageExt m : got) {
            take(m, messages, next);
        }
        awaitOffsets(request, next);
        return messages;
    }
}
