"""The template, deployed on the local stack."""

import json

from local.stack import LocalStack

OUTPUTS = {
    "UploadBucketName",
    "OutputBucketName",
    "NotificationTopicArn",
    "JobStateMachineArn",
    "JobsTableName",
    "SweepFunctionName",
    "AlarmTopicArn",
    "DashboardName",
    "UploadQueueUrl",
    "DeadLetterQueueUrl",
}


def test_the_outputs_are_all_there(stack: LocalStack) -> None:
    assert set(stack.outputs) >= OUTPUTS
    assert all(stack.outputs.values())


def test_the_state_file_says_how_to_reach_the_stack(stack: LocalStack) -> None:
    state = json.loads(stack.state_file.read_text())
    assert state["outputs"] == stack.outputs
    assert state["segmind_base_url"] == stack.segmind_base_url
    assert {"endpoint_url", "region", "aws_access_key_id", "aws_secret_access_key"} <= set(state)


def test_the_outputs_name_what_exists(stack: LocalStack) -> None:
    stack.client("s3").head_bucket(Bucket=stack.outputs["UploadBucketName"])
    stack.client("s3").head_bucket(Bucket=stack.outputs["OutputBucketName"])
    table = stack.client("dynamodb").describe_table(TableName=stack.outputs["JobsTableName"])["Table"]
    machine = stack.client("stepfunctions").describe_state_machine(stateMachineArn=stack.outputs["JobStateMachineArn"])
    assert "by-character" in {index["IndexName"] for index in table["GlobalSecondaryIndexes"]}
    assert machine["status"] == "ACTIVE"


def test_the_pipeline_expects_the_latency_of_the_emulator(stack: LocalStack) -> None:
    functions = stack.client("lambda")
    environment = functions.get_function_configuration(FunctionName=stack.resource("PollFunction"))["Environment"]
    assert "TypicalInferenceSeconds" not in stack.parameters
    assert environment["Variables"]["TYPICAL_INFERENCE_SECONDS"] == "1"
