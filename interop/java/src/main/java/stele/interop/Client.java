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
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientIDSetter;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Sends and receives by RocketMQ's own client, for tests of a whole broker. It
 * takes requests as Main does, one after the other, each with the address of a
 * name server and the group of the producer or consumer, which lives as long as
 * the request.
 */
public final class Client {
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), false,
        StandardCharsets.UTF_8);
    private static final int PATIENCE_MS = 120_000;

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
                pull(request, reply);
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

    /** Waits until the name server knows the broker, which says that it is up before that. */
    private static void awaitRoute(DefaultMQProducer producer) throws Exception {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (true) {
            try {
                producer.fetchPublishMessageQueues(producer.getCreateTopicKey());
                return;
            } catch (MQClientException e) {
                if (System.currentTimeMillis() > end) {
                    throw e;
                }
                synchronized (Client.class) {
                    Client.class.wait(50);
                }
            }
        }
    }

    /** Sends messages one by one, or as one batch, and returns their unique keys. */
    private static JSONArray send(JSONObject request) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(request.getString("group"));
        producer.setNamesrvAddr(request.getString("namesrv"));
        producer.setSendMsgTimeout(PATIENCE_MS);
        producer.start();
        try {
            awaitRoute(producer);
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
        producer.setNamesrvAddr(request.getString("namesrv"));
        producer.setSendMsgTimeout(PATIENCE_MS);
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
        producer.start();
        try {
            awaitRoute(producer);
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

    /** Consumes a number of messages or a few more, and commits exactly what it consumed. */
    private static void pull(JSONObject request, JSONObject reply) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(request.getString("group"));
        consumer.setNamesrvAddr(request.getString("namesrv"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAutoCommit(false);
        consumer.setPullBatchSize(3);
        for (Object topic : request.getJSONArray("topics")) {
            consumer.subscribe((String) topic, "*");
        }
        consumer.start();
        try {
            JSONArray messages = new JSONArray();
            Map<MessageQueue, Long> next = new HashMap<>();
            long end = System.currentTimeMillis() + PATIENCE_MS;
            while (messages.size() < request.getIntValue("count") && System.currentTimeMillis() < end) {
                for (MessageExt m : consumer.poll(1000)) {
                    messages.add(row(m));
                    next.put(new MessageQueue(m.getTopic(), m.getBrokerName(), m.getQueueId()), m.getQueueOffset() + 1);
                }
            }
            consumer.commit(next, true);
            reply.put("messages", messages);
        } finally {
            consumer.shutdown();
        }
    }

    /** Consumes until it has a number of messages, and whatever comes with the last one. */
    private static JSONArray push(JSONObject request) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(request.getString("group"));
        consumer.setNamesrvAddr(request.getString("namesrv"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        for (Object topic : request.getJSONArray("topics")) {
            consumer.subscribe((String) topic, "*");
        }
        BlockingQueue<MessageExt> got = new LinkedBlockingQueue<>();
        consumer.registerMessageListener((MessageListenerConcurrently) (all, context) -> {
            got.addAll(all);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.setAwaitTerminationMillisWhenShutdown(PATIENCE_MS); // what it has given out, it also commits
        consumer.start();
        try {
            long end = System.currentTimeMillis() + PATIENCE_MS;
            synchronized (Client.class) {
                while (got.size() < request.getIntValue("count") && System.currentTimeMillis() < end) {
                    Client.class.wait(20);
                }
            }
        } finally {
            consumer.shutdown();
        }
        JSONArray messages = new JSONArray();
        for (MessageExt m : got) {
            messages.add(row(m));
        }
        return messages;
    }
}
